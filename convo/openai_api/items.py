"""Items of a conversation: as clients send them, as they are stored, and as clients get them back."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal

from django.core import signing
from pydantic import Field, create_model

from convo.errors import InvalidItem, NotFound
from convo.history import NewMessage, with_inline_data
from convo.models import Message
from convo.models.messages import prefix_of
from convo.openai_api import parts
from convo.openai_api.validation import (
    NonEmpty,
    RequestModel,
    TextOrArray,
    check_storable,
    invalid,
    missing,
    type_of,
    unknown_type,
    validate,
    without_nulls,
)

MAX_ID_LENGTH = 80
ToolName = Annotated[str, Field(min_length=1, max_length=200)]
_ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]+")
_DEFAULT_PREFIX = prefix_of("")
_COMPACTION_SALT = "convo.compaction"
_PLAIN_KEYS = {"id", "type", "role", "status", "content"}
_Status = Literal["in_progress", "completed", "incomplete"]
# Items of OpenAI's hosted tools have further statuses.
_ToolStatus = Literal[_Status, "searching", "generating", "interpreting", "calling", "failed"]

# The fields of each item type except messages. A key that ends in `?` is optional.
_ITEM_FIELDS: dict[str, dict[str, Any]] = {
    "function_call": {"call_id": NonEmpty, "name": ToolName, "arguments": str, "status?": _Status},
    "function_call_output": {"call_id": NonEmpty, "output": TextOrArray, "status?": _ToolStatus},
    "reasoning": {"summary?": list, "content?": list, "encrypted_content?": str, "status?": _Status},
    "compaction": {"encrypted_content": str},
    "file_search_call": {"queries": list, "results?": list, "status?": _ToolStatus},
    "web_search_call": {"action": dict, "status?": _ToolStatus},
    "image_generation_call": {"result?": str, "status?": _ToolStatus},
    "computer_call": {"call_id": NonEmpty, "pending_safety_checks?": list, "status?": _ToolStatus},
    "computer_call_output": {"call_id": NonEmpty, "output": dict, "status?": _ToolStatus},
    "tool_search_call": {"execution?": str, "status?": _ToolStatus},
    "tool_search_output": {"tools": list, "execution?": str, "status?": _ToolStatus},
    "additional_tools": {"role": str, "tools": list},
    "configuration_update": {},
    "program": {"call_id": NonEmpty, "code": str, "fingerprint": str},
    "program_output": {"call_id": NonEmpty, "result": str, "status?": _ToolStatus},
    "code_interpreter_call": {"container_id": str, "code?": str, "outputs?": list, "status?": _ToolStatus},
    "local_shell_call": {"call_id": NonEmpty, "action": dict, "status?": _ToolStatus},
    "local_shell_call_output": {"output": str, "status?": _ToolStatus},
    "shell_call": {"call_id": NonEmpty, "action": dict, "status?": _ToolStatus},
    "shell_call_output": {"call_id": NonEmpty, "output": list, "status?": _ToolStatus},
    "apply_patch_call": {"call_id": NonEmpty, "operation": dict, "status?": _ToolStatus},
    "apply_patch_call_output": {"call_id": NonEmpty, "output?": str, "status?": _ToolStatus},
    "mcp_list_tools": {"server_label": str, "tools": list},
    "mcp_approval_request": {"server_label": str, "name": ToolName, "arguments": str},
    "mcp_approval_response": {"approval_request_id": str, "approve": bool},
    "mcp_call": {
        "server_label": str,
        "name": ToolName,
        "arguments": str,
        "output?": str,
        "status?": _ToolStatus,
    },
    "custom_tool_call": {"call_id": NonEmpty, "name": ToolName, "input": str},
    "custom_tool_call_output": {"call_id": NonEmpty, "output": TextOrArray},
}
TYPES = ("message", *_ITEM_FIELDS)
# These items always have a status when clients get them.
_WITH_STATUS = {"message", *(name for name, fields in _ITEM_FIELDS.items() if "status?" in fields)}
_WITH_STATUS -= {"reasoning", "mcp_call"}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "reasoning": {"summary": []},
    "computer_call": {"pending_safety_checks": []},
    "tool_search_call": {"arguments": {}, "execution": "server"},
    "tool_search_output": {"execution": "server"},
}
_DEVELOPER_TYPES = {"additional_tools", "configuration_update"}
_VALIDATED_PARTS = {
    "reasoning": ("summary", "content"),
    "function_call_output": ("output",),
    "custom_tool_call_output": ("output",),
}


class _AnyItem(RequestModel):
    id: str | None = None


class _MessageItem(_AnyItem):
    """A message, whose parts are validated one by one."""

    role: Literal["user", "assistant", "system", "developer"]
    status: _Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    content: TextOrArray


def read_item(item: Any, path: str) -> NewMessage:
    """Validate an item, or return a message without a role if it only references a stored one."""
    id = item.get("id") if isinstance(item, dict) else None
    if not isinstance(id, str) or not id:
        return message_from_item(item, path)
    is_reference = item.get("type") == "item_reference" or without_nulls(item).keys() == {"id"}
    return NewMessage(role="", item_id=id) if is_reference else message_from_item(item, path)


def resolve_reference(draft: NewMessage, stored_items: Mapping[str, NewMessage], param: str) -> NewMessage:
    """Return the stored item with the id of this one, if there is one."""
    if row := stored_items.get(draft.item_id):
        return row
    if not draft.role:
        raise NotFound(f"Item with id '{draft.item_id[:MAX_ID_LENGTH]}' not found.", param=param)
    return draft


def message_from_item(item: Any, path: str) -> NewMessage:
    """Validate and normalise this item as a message to store, under the item's own id if it has one."""
    check_storable(item, path)
    item_type = _item_type_of(item, path)
    fields = validate(_model(item_type), item, path)
    _check_id(fields.id, item_type, f"{path}.id")
    sent_fields = _without_keys(without_nulls(item), "id")
    if isinstance(fields, _MessageItem):
        return _message_draft(fields, sent_fields, path)
    return _item_draft(item_type, sent_fields, fields.id or "", path)


def item_json(message: Message, *, status: str = "completed") -> dict[str, Any]:
    """Render a message as an item. `status` applies to a message that is stored as plain text."""
    (message,) = with_inline_data([message])
    if message.item is None:
        content = [parts.text_part(message.role, message.content)]
        fields: dict[str, Any] = {"role": message.role, "status": status, "content": content}
    else:
        fields = _with_defaults(message.item, message.type)
        if message.type == "message":
            fields = {"role": message.role, **fields}
    return {"id": message.item_id, "type": message.type, **_without_keys(fields, "id", "type")}


def _item_type_of(item: object, path: str) -> str:
    if isinstance(item, dict) and item.get("type") in (None, "") and item.get("role") is not None:
        return "message"
    item_type = type_of(item, path)
    if not item_type:
        raise missing(f"{path}.type")
    if item_type not in TYPES:
        raise unknown_type(path, TYPES)
    return item_type


@cache
def _model(item_type: str) -> type[_AnyItem]:
    """Return the model of this type of items. It is built when it is needed: few types ever are."""
    if item_type == "message":
        return _MessageItem
    fields: dict[str, Any] = {
        name.removesuffix("?"): (annotation | None, None) if name.endswith("?") else annotation
        for name, annotation in _ITEM_FIELDS[item_type].items()
    }
    return create_model(item_type, __base__=_AnyItem, **fields)


def _message_draft(message: _MessageItem, fields: dict[str, Any], path: str) -> NewMessage:
    role, content, status = message.role, message.content, message.status or "completed"
    if isinstance(content, str):
        content = [parts.text_part(role, content)]
    else:
        # A model that only called tools sends an empty message.
        content = parts.validate_parts(content, f"{path}.content") or [parts.text_part(role, "")]
    draft = NewMessage(role=role, content=parts.text_of(content), item_id=message.id or "")
    is_plain = len(content) == 1 and parts.is_plain(content[0]) and fields.keys() <= _PLAIN_KEYS
    if is_plain and status == "completed":
        return draft
    return replace(draft, item={**fields, "type": "message", "status": status, "content": content})


def _item_draft(item_type: str, fields: dict[str, Any], item_id: str, path: str) -> NewMessage:
    if item_type == "reasoning" and not (item_id or "encrypted_content" in fields):
        raise InvalidItem("Invalid item: reasoning needs its `id` or its `encrypted_content`.", param="item")
    # Prompts and clients read these lists of parts and rely on their form.
    for name in _VALIDATED_PARTS.get(item_type, ()):
        if isinstance(fields.get(name), list):
            parts.validate_parts(fields[name], f"{path}.{name}")
    tool_name = fields.get("name")
    return NewMessage(
        role=_role_of(item_type),
        type=item_type,
        content=_text_of(fields, item_type),
        name=tool_name if isinstance(tool_name, str) else "",
        item=_with_defaults(fields, item_type),
        item_id=item_id,
    )


def _text_of(item: Mapping[str, Any], item_type: str) -> str:
    if item_type == "compaction":
        return read_signed_text(item["encrypted_content"])
    # Reasoning is not part of the conversation, so no search finds it.
    return "" if item_type == "reasoning" else parts.text_of(item.get("output"))


def _check_id(item_id: str | None, item_type: str, path: str) -> None:
    if item_id is None:
        return
    prefix = prefix_of(item_type)
    if prefix != _DEFAULT_PREFIX and not item_id.startswith(prefix):
        raise invalid(path, f"'{item_id[:MAX_ID_LENGTH]}'. Expected an ID that begins with '{prefix}'.")
    if not is_item_id(item_id):
        raise invalid(
            path, f"an ID has 1 to {MAX_ID_LENGTH} letters, digits, underscores, dashes, dots or colons."
        )


def is_item_id(text: str) -> bool:
    return len(text) <= MAX_ID_LENGTH and _ID_PATTERN.fullmatch(text) is not None


def _role_of(item_type: str) -> str:
    if item_type in _DEVELOPER_TYPES:
        return Message.Role.DEVELOPER
    is_output = item_type.endswith("_output") or item_type == "mcp_approval_response"
    return Message.Role.TOOL if is_output else Message.Role.ASSISTANT


def _with_defaults(item: Mapping[str, Any], item_type: str) -> dict[str, Any]:
    """Add the fields that clients require; the REST API accepts items without them."""
    complete_item = {**_DEFAULTS.get(item_type, {}), **item}
    if item_type in _WITH_STATUS:
        complete_item["status"] = item.get("status") or "completed"
    for name in ("content", "output"):
        if isinstance(complete_item.get(name), list) and item_type != "shell_call_output":
            complete_item[name] = parts.with_defaults(complete_item[name])
    return complete_item


def _without_keys(item: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in names}


def sign_text(text: str) -> str:
    return signing.dumps(text, salt=_COMPACTION_SALT, compress=True)


def read_signed_text(signed_text: str) -> str:
    """Return the text, or '' if it was not signed by this server."""
    try:
        return str(signing.loads(signed_text, salt=_COMPACTION_SALT))
    except signing.BadSignature:
        return ""
