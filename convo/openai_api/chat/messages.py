"""The messages of a chat completions request: validated one by one, and converted to drafts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from convo.history import NewMessage
from convo.openai_api import items
from convo.openai_api.body import Body, check_storable, invalid, missing, require_type, wrong_type

SYSTEM_ROLES = ("system", "developer")
ROLES = (*SYSTEM_ROLES, "user", "assistant", "tool")
_DETAILS = ("auto", "low", "high", "original")


def validate_messages(body: Body) -> list[dict[str, Any]]:
    """Validate the messages and return them unchanged: each has a known role and the fields of that role."""
    body.require("messages", list)
    messages = body.array("messages", min_length=1) or []
    for index, message in enumerate(messages):
        check_storable(message, f"messages[{index}]")
        _check_message(Body(message, f"messages[{index}]"))
    return messages


def messages_from_chat(message: Mapping[str, Any], path: str) -> list[NewMessage]:
    """Convert one message to drafts: one for its text, and one for each of its tool calls."""
    role, content = message["role"], message.get("content")
    if role == "tool":
        output = content if isinstance(content, str) else [_item_part(part, role) for part in content or ()]
        item = {"type": "function_call_output", "call_id": message["tool_call_id"], "output": output}
        return [items.message_from_item(item, path)]
    if refusal := message.get("refusal"):
        content = [*_parts_of(content), {"type": "refusal", "refusal": refusal}]
    calls = message.get("tool_calls") or ()
    drafts = []
    if content or not calls:
        item_content = (
            content if isinstance(content, str) else [_item_part(part, role) for part in content or ()]
        )
        draft = items.message_from_item({"type": "message", "role": role, "content": item_content}, path)
        drafts = [replace(draft, name=message.get("name") or "")]
    return [*drafts, *(_call_draft(call, path) for call in calls)]


def system_text(messages: Sequence[Mapping[str, Any]]) -> str:
    contents = [message["content"] for message in messages if message["role"] in SYSTEM_ROLES]
    return "\n\n".join("\n".join(part["text"] for part in _parts_of(content)) for content in contents)


def _parts_of(content: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def _call_draft(call: dict[str, Any], path: str) -> NewMessage:
    function = call["function"]
    item = {"call_id": call["id"], "name": function["name"], "arguments": function["arguments"]}
    return items.message_from_item({"type": "function_call", **item}, path)


def _item_part(part: dict[str, Any], role: str) -> dict[str, Any]:
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


def _check_message(message: Body) -> None:
    role = message.require("role", str)
    if role not in ROLES:
        raise invalid(message.path_of("role"), f"{role!r}. Expected one of: {', '.join(ROLES)}.")
    message.text("name", max_length=items.MAX_NAME_LENGTH)
    if role == "tool":
        _require_nonempty(message, "tool_call_id")
    calls = message.array("tool_calls") or [] if role == "assistant" else []
    for index, call in enumerate(calls):
        _check_call(Body(call, f"{message.path_of('tool_calls')}[{index}]"))
    refusal = message.text("refusal") if role == "assistant" else None
    _check_content(message, role, is_optional=bool(calls or refusal))


def _check_content(message: Body, role: str, *, is_optional: bool) -> None:
    content, path = message.data.get("content"), message.path_of("content")
    if content is None:
        if is_optional:
            return
        raise missing(path)
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong_type(path, content, str, list)
    if not content:
        raise invalid(path, "an array of parts must not be empty.")
    part_checks = _PART_CHECKS.get(role, {"text": _check_text})
    for index, entry in enumerate(content):
        part = Body(entry, f"{path}[{index}]")
        part_type = part.require("type", str)
        if part_type not in part_checks:
            audio = " Audio is not supported." if part_type == "input_audio" else ""
            raise invalid(
                part.path_of("type"), f"{part_type!r}. Expected one of: {', '.join(part_checks)}.{audio}"
            )
        part_checks[part_type](part)


def _check_call(call: Body) -> None:
    _require_nonempty(call, "id")
    call.choice("type", "function")
    function = call.nested("function")
    if function is None:
        raise missing(call.path_of("function"))
    _require_nonempty(function, "name")
    function.text("name", max_length=items.MAX_NAME_LENGTH)
    function.require("arguments", str)


def _require_nonempty(body: Body, name: str) -> None:
    if not body.require(name, str):
        raise invalid(body.path_of(name), "it is empty.")


def _check_text(part: Body) -> None:
    part.require("text", str)


def _check_refusal(part: Body) -> None:
    part.require("refusal", str)


def _check_image(part: Body) -> None:
    image = Body(
        require_type(part.require("image_url", dict), dict, part.path_of("image_url")),
        part.path_of("image_url"),
    )
    image.require("url", str)
    image.choice("detail", *_DETAILS)


def _check_file(part: Body) -> None:
    file = Body(part.require("file", dict), part.path_of("file"))
    names = ("file_data", "file_id")
    file.text("filename")
    if not [name for name in names if file.text(name) is not None]:
        raise invalid(file.path, f"one of these is required: {', '.join(names)}.")


_PartCheck = Callable[[Body], None]
_PART_CHECKS: dict[str, dict[str, _PartCheck]] = {
    "user": {"text": _check_text, "image_url": _check_image, "file": _check_file},
    "assistant": {"text": _check_text, "refusal": _check_refusal},
}
