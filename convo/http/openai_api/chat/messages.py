"""The messages of a chat completions request: checked one by one, and as drafts of our own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from convo.history import Draft
from convo.http.openai_api import items
from convo.http.openai_api.body import Body, check_storable, invalid, missing, mistyped, of_type

SYSTEM = ("system", "developer")
ROLES = (*SYSTEM, "user", "assistant", "tool")
_DETAILS = ("auto", "low", "high", "original")


def checked(body: Body) -> list[dict[str, Any]]:
    """The messages as they were given, each of a known role and with all that this role needs."""
    body.need("messages", list)
    given = body.entries("messages", least=1) or []
    for index, message in enumerate(given):
        check_storable(message, f"messages[{index}]")
        _check(Body(message, f"messages[{index}]"))
    return given


def drafts_of(message: Mapping[str, Any], at: str) -> list[Draft]:
    """What is stored of one message: its words, and each of its tool calls."""
    role, content = message["role"], message.get("content")
    if role == "tool":
        output = content if isinstance(content, str) else [_item_part(part, role) for part in content or ()]
        item = {"type": "function_call_output", "call_id": message["tool_call_id"], "output": output}
        return [items.draft_of(item, at)]
    if refused := message.get("refusal"):
        content = [*_parts_of(content), {"type": "refusal", "refusal": refused}]
    calls = message.get("tool_calls") or ()
    found = []
    if content or not calls:
        words = content if isinstance(content, str) else [_item_part(part, role) for part in content or ()]
        draft = items.draft_of({"type": "message", "role": role, "content": words}, at)
        found = [replace(draft, name=message.get("name") or "")]
    return [*found, *(_call(call, at) for call in calls)]


def system_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the system messages say, one after the other."""
    told = [message["content"] for message in messages if message["role"] in SYSTEM]
    return "\n\n".join("\n".join(part["text"] for part in _parts_of(content)) for content in told)


def _parts_of(content: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def _call(call: dict[str, Any], at: str) -> Draft:
    function = call["function"]
    item = {"call_id": call["id"], "name": function["name"], "arguments": function["arguments"]}
    return items.draft_of({"type": "function_call", **item}, at)


def _item_part(part: dict[str, Any], role: str) -> dict[str, Any]:
    """A part of a chat message as a part of an item."""
    match part["type"]:
        case "image_url":
            image = part["image_url"]
            return {
                "type": "input_image",
                "image_url": image["url"],
                "detail": image.get("detail") or "auto",
            }
        case "file":
            return {"type": "input_file", **part["file"]}
        case "text":
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
    return part


def _check(message: Body) -> None:
    role = message.need("role", str)
    if role not in ROLES:
        raise invalid(message.place("role"), f"{role!r}. Expected one of: {', '.join(ROLES)}.")
    message.text("name", most=items.LONGEST_NAME)
    if role == "tool":
        _check_name(message, "tool_call_id")
    calls = message.entries("tool_calls") or [] if role == "assistant" else []
    for index, call in enumerate(calls):
        _check_call(Body(call, f"{message.place('tool_calls')}[{index}]"))
    refused = message.text("refusal") if role == "assistant" else None
    _check_content(message, role, may_lack=bool(calls or refused))


def _check_content(message: Body, role: str, *, may_lack: bool) -> None:
    content, place = message.given.get("content"), message.place("content")
    if content is None:
        if may_lack:
            return
        raise missing(place)
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise mistyped(place, content, str, list)
    if not content:
        raise invalid(place, "an array of parts must not be empty.")
    kinds = _PARTS.get(role, {"text": _text})
    for index, entry in enumerate(content):
        part = Body(entry, f"{place}[{index}]")
        kind = part.need("type", str)
        if kind not in kinds:
            audio = " Audio is not taken here." if kind == "input_audio" else ""
            raise invalid(part.place("type"), f"{kind!r}. Expected one of: {', '.join(kinds)}.{audio}")
        kinds[kind](part)


def _check_call(call: Body) -> None:
    _check_name(call, "id")
    call.choice("type", "function")
    function = call.inner("function")
    if function is None:
        raise missing(call.place("function"))
    _check_name(function, "name")
    function.text("name", most=items.LONGEST_NAME)
    function.need("arguments", str)


def _check_name(body: Body, name: str) -> None:
    if not body.need(name, str):
        raise invalid(body.place(name), "it is empty.")


def _text(part: Body) -> None:
    part.need("text", str)


def _refusal(part: Body) -> None:
    part.need("refusal", str)


def _image(part: Body) -> None:
    image = Body(
        of_type(part.need("image_url", dict), dict, part.place("image_url")), part.place("image_url")
    )
    image.need("url", str)
    image.choice("detail", *_DETAILS)


def _file(part: Body) -> None:
    file = Body(part.need("file", dict), part.place("file"))
    names = ("file_data", "file_id")
    file.text("filename")
    if not [name for name in names if file.text(name) is not None]:
        raise invalid(file.at, f"one of these is needed: {', '.join(names)}.")


_Check = Callable[[Body], None]
_PARTS: dict[str, dict[str, _Check]] = {
    "user": {"text": _text, "image_url": _image, "file": _file},
    "assistant": {"text": _text, "refusal": _refusal},
}
