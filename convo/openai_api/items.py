"""Items of a conversation: as clients send them, as they are stored, and as clients get them back."""

import re
from collections.abc import Mapping
from typing import Any

from convo.errors import InvalidItem
from convo.history import NewMessage, with_inline_data
from convo.models import Message
from convo.models.messages import prefix_of
from convo.openai_api import parts
from convo.openai_api.body import Body, check_storable, invalid, missing, wrong_type
from convo.openai_api.signed_text import read_signed_text

ROLES = ("user", "assistant", "system", "developer")
MAX_ID_LENGTH, MAX_NAME_LENGTH = 80, 200
_ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]+")
_DEFAULT_PREFIX = prefix_of("")
_PLAIN_KEYS = {"id", "type", "role", "status", "content"}
_STATUSES = ("in_progress", "completed", "incomplete")
# Items of OpenAI's hosted tools have further statuses.
_TOOL_STATUSES = (*_STATUSES, "searching", "generating", "interpreting", "calling", "failed")

# The fields of each item type except messages. A key that ends in `?` is optional.
_ITEM_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "function_call": {"call_id": (str,), "name": (str,), "arguments": (str,)},
    "function_call_output": {"call_id": (str,), "output": (str, list)},
    "reasoning": {"summary?": (list,), "content?": (list,), "encrypted_content?": (str,)},
    "compaction": {"encrypted_content": (str,)},
    "file_search_call": {"queries": (list,), "results?": (list,)},
    "web_search_call": {"action": (dict,)},
    "image_generation_call": {"result?": (str,)},
    "computer_call": {"call_id": (str,), "pending_safety_checks?": (list,)},
    "computer_call_output": {"call_id": (str,), "output": (dict,)},
    "tool_search_call": {"execution?": (str,)},
    "tool_search_output": {"tools": (list,), "execution?": (str,)},
    "additional_tools": {"role": (str,), "tools": (list,)},
    "configuration_update": {},
    "program": {"call_id": (str,), "code": (str,), "fingerprint": (str,)},
    "program_output": {"call_id": (str,), "result": (str,)},
    "code_interpreter_call": {"container_id": (str,), "code?": (str,), "outputs?": (list,)},
    "local_shell_call": {"call_id": (str,), "action": (dict,)},
    "local_shell_call_output": {"output": (str,)},
    "shell_call": {"call_id": (str,), "action": (dict,)},
    "shell_call_output": {"call_id": (str,), "output": (list,)},
    "apply_patch_call": {"call_id": (str,), "operation": (dict,)},
    "apply_patch_call_output": {"call_id": (str,), "output?": (str,)},
    "mcp_list_tools": {"server_label": (str,), "tools": (list,)},
    "mcp_approval_request": {"server_label": (str,), "name": (str,), "arguments": (str,)},
    "mcp_approval_response": {"approval_request_id": (str,), "approve": (bool,)},
    "mcp_call": {"server_label": (str,), "name": (str,), "arguments": (str,), "output?": (str,)},
    "custom_tool_call": {"call_id": (str,), "name": (str,), "input": (str,)},
    "custom_tool_call_output": {"call_id": (str,), "output": (str, list)},
}
TYPES = ("message", *_ITEM_FIELDS)
_WITHOUT_STATUS = {
    "additional_tools",
    "configuration_update",
    "compaction",
    "custom_tool_call",
    "custom_tool_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "reasoning",
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "reasoning": {"summary": []},
    "computer_call": {"pending_safety_checks": []},
    "tool_search_call": {"arguments": {}, "execution": "server"},
    "tool_search_output": {"execution": "server"},
}
_DEVELOPER_TYPES = {"additional_tools", "configuration_update"}


def referenced_id(item: object) -> str | None:
    """Return the id if this item only references a stored one, or None if it has content of its own."""
    if not isinstance(item, Mapping) or not isinstance(item.get("id"), str):
        return None
    is_bare = {key for key, value in item.items() if value is not None} == {"id"}
    return str(item["id"]) if is_bare or item.get("type") == "item_reference" else None


def message_from_item(item: object, path: str = "input[0]") -> NewMessage:
    """Validate and normalise this item as a message to store, under the item's own id if it has one."""
    check_storable(item, path)
    body = Body(item, path)
    item_type = body.get("type", str) or ("message" if body.has("role") else "")
    if not item_type:
        raise missing(body.path_of("type"))
    if item_type not in TYPES:
        raise invalid(body.path_of("type"), f"{item_type!r}. Expected one of: {', '.join(TYPES)}.")
    item_id = _id_of(body, item_type)
    return _message_draft(body, item_id) if item_type == "message" else _item_draft(body, item_type, item_id)


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


def _message_draft(body: Body, item_id: str) -> NewMessage:
    role = body.require("role", str)
    if role not in ROLES:
        raise invalid(body.path_of("role"), f"{role!r}. Expected one of: {', '.join(ROLES)}.")
    status = body.choice("status", *_STATUSES) or "completed"
    body.choice("phase", "commentary", "final_answer")
    content = body.data.get("content")
    if content is None:
        raise missing(body.path_of("content"))
    if isinstance(content, str):
        content = [parts.text_part(role, content)]
    elif not isinstance(content, list):
        raise wrong_type(body.path_of("content"), content, str, list)
    # A model that only called tools sends an empty message.
    content = parts.validate_parts(content, body.path_of("content")) or [parts.text_part(role, "")]
    plain_draft = NewMessage(role=role, content=parts.text_of(content), item_id=item_id)
    item = {key: value for key, value in body.data.items() if value is not None}
    is_plain = len(content) == 1 and parts.is_plain(content[0]) and set(item) <= _PLAIN_KEYS
    if is_plain and status == "completed":
        return plain_draft
    stored_item = {**_without_keys(item, "id"), "type": "message", "status": status, "content": content}
    return NewMessage(role=role, content=plain_draft.content, item=stored_item, item_id=item_id)


def _item_draft(body: Body, item_type: str, item_id: str) -> NewMessage:
    for key, json_types in _ITEM_FIELDS[item_type].items():
        _check_field(body, key.removesuffix("?"), json_types, is_required=not key.endswith("?"))
    if item_type not in _WITHOUT_STATUS or item_type in {"reasoning", "mcp_call"}:
        body.choice("status", *(_STATUSES if item_type in {"function_call", "reasoning"} else _TOOL_STATUSES))
    if item_type == "reasoning" and not (item_id or body.has("encrypted_content")):
        raise InvalidItem("Invalid item: reasoning needs its `id` or its `encrypted_content`.", param="item")
    for name in ("summary", "content") if item_type == "reasoning" else ("output",):
        _check_parts(body, name, item_type)
    tool_name = body.data.get("name")
    item = {key: value for key, value in body.data.items() if value is not None}
    return NewMessage(
        role=_role_of(item_type),
        type=item_type,
        content=_text_of(item, item_type),
        name=tool_name if isinstance(tool_name, str) else "",
        item=_with_defaults(_without_keys(item, "id"), item_type),
        item_id=item_id,
    )


def _text_of(item: Mapping[str, Any], item_type: str) -> str:
    if item_type == "compaction":
        return read_signed_text(item["encrypted_content"])
    # Reasoning is not part of the conversation, so no search finds it.
    return "" if item_type == "reasoning" else parts.text_of(item.get("output"))


def _check_field(body: Body, key: str, json_types: tuple[type, ...], *, is_required: bool) -> None:
    value = body.data.get(key)
    if value is None and is_required:
        raise missing(body.path_of(key))
    if value is not None and type(value) not in json_types:
        raise wrong_type(body.path_of(key), value, *json_types)
    if key in {"call_id", "name"} and is_required and not value:
        raise invalid(body.path_of(key), "it is empty.")
    if key == "name" and isinstance(value, str) and len(value) > MAX_NAME_LENGTH:
        raise invalid(body.path_of(key), f"string too long. Expected at most {MAX_NAME_LENGTH} characters.")


def _check_parts(body: Body, name: str, item_type: str) -> None:
    # Prompts and clients read these lists of parts and rely on their form.
    value = body.data.get(name)
    if isinstance(value, list) and item_type in {
        "reasoning",
        "function_call_output",
        "custom_tool_call_output",
    }:
        parts.validate_parts(value, body.path_of(name))


def _id_of(body: Body, item_type: str) -> str:
    item_id = body.get("id", str)
    if item_id is None:
        return ""
    prefix, path = prefix_of(item_type), body.path_of("id")
    if prefix != _DEFAULT_PREFIX and not item_id.startswith(prefix):
        raise invalid(path, f"'{item_id}'. Expected an ID that begins with '{prefix}'.")
    if not is_item_id(item_id):
        raise invalid(
            path, f"an ID has 1 to {MAX_ID_LENGTH} letters, digits, underscores, dashes, dots or colons."
        )
    return item_id


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
    if item_type not in _WITHOUT_STATUS:
        complete_item["status"] = item.get("status") or "completed"
    for name in ("content", "output"):
        if isinstance(complete_item.get(name), list) and item_type != "shell_call_output":
            complete_item[name] = parts.with_defaults(complete_item[name])
    return complete_item


def _without_keys(item: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in names}
