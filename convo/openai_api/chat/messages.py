"""The messages of a chat completions request: validated one by one, and converted to drafts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from convo.history import NewMessage
from convo.openai_api import items
from convo.openai_api.items import ToolName
from convo.openai_api.parts import Detail, RefusalPart, TextPart
from convo.openai_api.validation import (
    Array,
    Checked,
    JsonObject,
    NonEmpty,
    RequestModel,
    TextOrArray,
    check_storable,
    invalid,
    missing,
    require_one_of,
    validate,
    validate_by_type,
)

SYSTEM_ROLES = ("system", "developer")


class ChatMessage(RequestModel):
    """A message of any role."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: TextOrArray | None = None
    name: Annotated[str, Field(max_length=200)] | None = None


class _ToolMessage(ChatMessage):
    tool_call_id: NonEmpty


class _CalledFunction(RequestModel):
    name: ToolName
    arguments: str


class _ToolCall(RequestModel):
    id: NonEmpty
    type: Literal["function"] | None = None
    function: _CalledFunction


class _AssistantMessage(ChatMessage):
    tool_calls: Array[Annotated[JsonObject, Checked(_ToolCall)]] | None = None
    refusal: str | None = None


class _ImageUrl(RequestModel):
    url: str
    detail: Detail | None = None


class _ImagePart(RequestModel):
    image_url: _ImageUrl


class _ChatFile(RequestModel):
    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class _FilePart(RequestModel):
    file: _ChatFile


_MODELS: dict[str, type[ChatMessage]] = {"assistant": _AssistantMessage, "tool": _ToolMessage}
_PARTS: dict[str, dict[str, type[RequestModel]]] = {
    "user": {"text": TextPart, "image_url": _ImagePart, "file": _FilePart},
    "assistant": {"text": TextPart, "refusal": RefusalPart},
}


def validate_message(message: Mapping[str, Any], path: str) -> None:
    """Validate the content of a message, and the fields of its role."""
    check_storable(message, path)
    role, content = message["role"], message.get("content")
    if model := _MODELS.get(role):
        validate(model, message, path)
    path = f"{path}.content"
    may_be_empty = role == "assistant" and (message.get("tool_calls") or message.get("refusal"))
    if content is None and not may_be_empty:
        raise missing(path)
    if content == []:
        raise invalid(path, "an array of parts must not be empty.")
    part_models = _PARTS.get(role, {"text": TextPart})
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if validate_by_type(part_models, part, f"{path}[{index}]") == "file":
            require_one_of(part["file"], ("file_data", "file_id"), f"{path}[{index}].file")


class SentMessage(NamedTuple):
    """A message of a request that is valid, and its path there."""

    path: str
    message: Mapping[str, Any]

    @property
    def role(self) -> str:
        return str(self.message["role"])

    @property
    def drafts(self) -> list[NewMessage]:
        """The message to store: one for its text, and one for each of its tool calls."""
        return _drafts(self.message, self.path)


def sent_messages(messages: Sequence[Mapping[str, Any]]) -> list[SentMessage]:
    return [SentMessage(f"messages[{index}]", message) for index, message in enumerate(messages)]


def drafts_of(messages: Iterable[SentMessage]) -> list[NewMessage]:
    return [draft for message in messages for draft in message.drafts]


def _drafts(message: Mapping[str, Any], path: str) -> list[NewMessage]:
    role, content, calls = message["role"], message.get("content"), message.get("tool_calls") or ()
    if role != "tool" and (refusal := message.get("refusal")):
        content = [*_parts_of(content), {"type": "refusal", "refusal": refusal}]
    parts = content if isinstance(content, str) else [_item_part(part, role) for part in content or ()]
    if role == "tool":
        item = {"type": "function_call_output", "call_id": message["tool_call_id"], "output": parts}
        return [items.message_from_item(item, path)]
    drafts = []
    if content or not calls:
        draft = items.message_from_item({"type": "message", "role": role, "content": parts}, path)
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
            return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail") or "auto"}
        case "file":
            return {"type": "input_file", **part["file"]}
        case "text":
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
    return part
