"""The chosen lines as the messages of a chat completions request."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convo.history import Line, readable, weighed

# Other names than these are refused by OpenAI, and with them the whole request.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
IN_SHORT = "What was said before this, in short:"
_FILE = ("file_id", "file_data", "filename")
SYSTEM_ROLES = {"system", "developer"}


def system_message(blocks: Sequence[str], lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """The one system message: instructions and what is known, then what the transcript holds of that kind."""
    told = [*blocks, *(line.content for line in lines if line.role in SYSTEM_ROLES)]
    if text := "\n\n".join(filter(None, told)):
        yield {"role": "system", "content": text}


def joined_to_question(
    blocks: Sequence[str], messages: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The messages with what was looked up for the last of the user's put before its words."""
    asked = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=None)
    text = "\n\n".join(filter(None, blocks))
    if asked is None or not text:
        return list(messages)
    content = messages[asked]["content"]
    whole = f"{text}\n\n{content}" if isinstance(content, str) else [{"type": "text", "text": text}, *content]
    return [*messages[:asked], {**messages[asked], "content": whole}, *messages[asked + 1 :]]


def chat_messages(lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """The lines as chat completions messages; each call's result right behind the message that calls."""
    # Some servers give the calls of each turn the same ids again, and a result may be told again where the
    # model failed on it: each call has the last one before the next call of its id.
    results: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.type == "function_call":
            results[line.call_id].append(line)
        elif line.type == "function_call_output" and results[line.call_id]:
            results[line.call_id][-1] = line
    pending: list[Line] = []
    for line in lines:
        if line.type == "function_call":
            pending.append(line)
            continue
        yield from _calls(pending, results)
        pending = []
        if line.type != "function_call_output":
            yield _message(line)
    yield from _calls(pending, results)


def _calls(calls: list[Line], results: Mapping[str, list[Line]]) -> Iterator[dict[str, Any]]:
    if not calls:
        return
    yield {"role": "assistant", "content": None, "tool_calls": [_call(line) for line in calls]}
    for line in calls:
        yield {"role": "tool", "tool_call_id": line.call_id, "content": _output(results[line.call_id].pop(0))}


def _call(line: Line) -> dict[str, Any]:
    item = line.item or {}
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": line.call_id, "type": "function", "function": function}


def _output(line: Line) -> str:
    output = (line.item or {}).get("output", line.content)
    if isinstance(output, str):
        return output
    return "\n".join(str(readable(part) or part.get("text", "")) for part in output)


def _message(line: Line) -> dict[str, Any]:
    if line.type == "compaction":
        return {"role": "assistant", "content": f"{IN_SHORT}\n{line.content}"}
    name = {"name": line.name} if _NAME.fullmatch(line.name) else {}
    # Few servers but OpenAI's know the role `developer`.
    role = "system" if line.role in SYSTEM_ROLES else line.role
    return {"role": role, "content": _content(line), **name}


def _content(line: Line) -> str | list[dict[str, Any]]:
    """Plain text, or the parts of a message that holds more."""
    parts = (line.item or {}).get("content")
    if not isinstance(parts, list):
        return line.content
    found = [_chat_part(part) for part in parts]
    # Many servers know no parts where one text is all there is.
    return str(found[0]["text"]) if len(found) == 1 and found[0]["type"] == "text" else found


def _chat_part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part.get("type") == "input_image" and part.get("image_url"):
        image = {"url": part["image_url"], "detail": part.get("detail", "auto")}
        return {"type": "image_url", "image_url": image}
    if text := readable(part):
        # Few servers take files; every model reads.
        return {"type": "text", "text": text}
    if part.get("type") == "input_file":
        return {"type": "file", "file": {name: part[name] for name in _FILE if part.get(name)}}
    # What chat completions have no form for is named, so that the message isn't empty.
    return {"type": "text", "text": part.get("text") or part.get("refusal") or f"[{part.get('type')}]"}


def bare(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], int]:
    """Messages without the images and files in them, and how many tokens those take."""
    found = [_bare(message) for message in messages]
    return [message for message, _ in found], sum(spent for _, spent in found)


def _bare(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    content = message.get("content")
    if not isinstance(content, list):
        return message, 0
    told, spent = weighed({"type": "message", "content": [_item_part(part) for part in content]})
    return {**message, "content": told["content"]}, spent


def _item_part(part: Any) -> Any:
    """A part of a chat completions message as one of an item, as far as it counts."""
    match part:
        case {"type": "image_url", "image_url": {"url": str(url), **rest}}:
            return {"type": "input_image", "image_url": url, **rest}
        case {"type": "file", "file": {**rest}}:
            return {"type": "input_file", **rest}
    return part
