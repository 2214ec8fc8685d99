"""Write the chosen messages in the form of a chat completions request."""

import re
from collections.abc import Iterator, Mapping, Sequence

from convo.history import TranscriptMessage
from convo.history.files import text_for_model, without_data
from convo.history.tool_pairs import CALL, RESULT, pair
from convo.llm.types import ChatMessage

# OpenAI refuses the whole request if a name has any other form.
_VALID_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
COMPACTION_HEADING = "What was said before this, in short:"
_FILE_FIELDS = ("file_id", "file_data", "filename")
SYSTEM_ROLES = {"system", "developer"}


def system_message(blocks: Sequence[str], messages: Sequence[TranscriptMessage]) -> Iterator[ChatMessage]:
    """Yield the one system message: the blocks, then the transcript's own system messages."""
    texts = [*blocks, *(message.content for message in messages if message.role in SYSTEM_ROLES)]
    if text := "\n\n".join(filter(None, texts)):
        yield {"role": "system", "content": text}


def prepend_to_question(blocks: Sequence[str], messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return the messages with these blocks put before the text of the last user message."""
    question_index = max(
        (index for index, message in enumerate(messages) if message["role"] == "user"), default=None
    )
    text = "\n\n".join(filter(None, blocks))
    if question_index is None or not text:
        return list(messages)
    content = messages[question_index]["content"]
    block = {"type": "text", "text": text}
    new_content = [block, *content] if isinstance(content, list) else f"{text}\n\n{content}"
    return [
        *messages[:question_index],
        {**messages[question_index], "content": new_content},
        *messages[question_index + 1 :],
    ]


def chat_messages(messages: Sequence[TranscriptMessage]) -> Iterator[ChatMessage]:
    """Yield these messages in chat completions form, each result right after the message that calls."""
    results = pair(enumerate(messages)).results
    pending: list[tuple[TranscriptMessage, TranscriptMessage]] = []
    for index, message in enumerate(messages):
        if message.type == CALL:
            # A question may hold a call without a result, which is sent as an empty one.
            pending.append((message, messages[results.get(index, index)]))
            continue
        yield from _call_messages(pending)
        pending = []
        if message.type != RESULT:
            yield _chat_message(message)
    yield from _call_messages(pending)


def _call_messages(pairs: Sequence[tuple[TranscriptMessage, TranscriptMessage]]) -> Iterator[ChatMessage]:
    if not pairs:
        return
    yield {"role": "assistant", "content": None, "tool_calls": [_tool_call(call) for call, _ in pairs]}
    for call, result in pairs:
        yield {"role": "tool", "tool_call_id": call.call_id, "content": _output_text(result)}


def _tool_call(message: TranscriptMessage) -> dict[str, object]:
    item = message.item or {}
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": message.call_id, "type": "function", "function": function}


def _output_text(message: TranscriptMessage) -> str:
    output = (message.item or {}).get("output", message.content)
    if isinstance(output, str):
        return output
    return "\n".join(str(text_for_model(part) or part.get("text", "")) for part in output)


def _chat_message(message: TranscriptMessage) -> ChatMessage:
    if message.type == "compaction":
        return {"role": "assistant", "content": f"{COMPACTION_HEADING}\n{message.content}"}
    name = {"name": message.name} if _VALID_NAME.fullmatch(message.name) else {}
    # Few servers but OpenAI's know the role `developer`.
    role = "system" if message.role in SYSTEM_ROLES else message.role
    return {"role": role, "content": _content(message), **name}


def _content(message: TranscriptMessage) -> str | list[dict[str, object]]:
    parts = (message.item or {}).get("content")
    if not isinstance(parts, list):
        return message.content
    chat_parts = [_chat_part(part) for part in parts]
    # Many servers don't know parts, which a message with only one text doesn't need.
    return (
        str(chat_parts[0]["text"]) if len(chat_parts) == 1 and chat_parts[0]["type"] == "text" else chat_parts
    )


def _chat_part(part: Mapping[str, object]) -> dict[str, object]:
    if part.get("type") == "input_image" and part.get("image_url"):
        image = {"url": part["image_url"], "detail": part.get("detail", "auto")}
        return {"type": "image_url", "image_url": image}
    if text := text_for_model(part):
        # Few servers take files, but every model reads text.
        return {"type": "text", "text": text}
    if part.get("type") == "input_file":
        return {"type": "file", "file": {name: part[name] for name in _FILE_FIELDS if part.get(name)}}
    # A part that has no form in chat completions is replaced by its type, so that the message isn't empty.
    return {"type": "text", "text": part.get("text") or part.get("refusal") or f"[{part.get('type')}]"}


def without_files(messages: Sequence[ChatMessage]) -> tuple[list[ChatMessage], int]:
    """Return the messages without their images and files, and the number of tokens that those take."""
    results = [_without_files(message) for message in messages]
    return [message for message, _ in results], sum(file_tokens for _, file_tokens in results)


def _without_files(message: ChatMessage) -> tuple[ChatMessage, int]:
    content = message.get("content")
    if not isinstance(content, list):
        return message, 0
    item, file_tokens = without_data({"type": "message", "content": [_item_part(part) for part in content]})
    return {**message, "content": item["content"]}, file_tokens


def _item_part(part: object) -> object:
    """Convert a part of a chat completions message to a part of an item, as far as counting needs it."""
    match part:
        case {"type": "image_url", "image_url": {"url": str(url), **rest}}:
            return {"type": "input_image", "image_url": url, **rest}
        case {"type": "file", "file": {**rest}}:
            return {"type": "input_file", **rest}
    return part
