"""Items: what stands in a conversation, as clients send it, as it is stored, and as they get it back."""

import re
from collections.abc import Mapping
from typing import Any

from convo.errors import InvalidItem
from convo.history import Draft, inlined
from convo.http.openai_api import parts
from convo.http.openai_api.body import Body, check_storable, invalid, missing, mistyped
from convo.http.openai_api.sealed import unsealed
from convo.models import Message
from convo.models.messages import prefix_of

ROLES = ("user", "assistant", "system", "developer")
LONGEST_ID, LONGEST_NAME = 80, 200
_ID = re.compile(r"[A-Za-z0-9_.:-]+")
_UNKNOWN_PREFIX = prefix_of("")
_PLAIN_KEYS = {"id", "type", "role", "status", "content"}
_STATUSES = ("in_progress", "completed", "incomplete")
# What tools of OpenAI's own may be in the middle of.
_WORKING = (*_STATUSES, "searching", "generating", "interpreting", "calling", "failed")

# The items besides messages: what each needs. A key with a `?` may be left out.
_NEEDS: dict[str, dict[str, tuple[type, ...]]] = {
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
TYPES = ("message", *_NEEDS)
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
_FILLED: dict[str, dict[str, Any]] = {
    "reasoning": {"summary": []},
    "computer_call": {"pending_safety_checks": []},
    "tool_search_call": {"arguments": {}, "execution": "server"},
    "tool_search_output": {"execution": "server"},
}
_TOLD_BY_THE_APPLICATION = {"additional_tools", "configuration_update"}


def reference_of(item: object) -> str | None:
    """The id of the stored item that this one only points to; None when it says something itself."""
    if not isinstance(item, Mapping) or not isinstance(item.get("id"), str):
        return None
    is_bare = {key for key, value in item.items() if value is not None} == {"id"}
    return str(item["id"]) if is_bare or item.get("type") == "item_reference" else None


def draft_of(item: object, at: str = "input[0]") -> Draft:
    """The message to store for this item, whole and normalised; its own id is kept if it has one."""
    check_storable(item, at)
    given = Body(item, at)
    kind = given.get("type", str) or ("message" if given.has("role") else "")
    if not kind:
        raise missing(given.place("type"))
    if kind not in TYPES:
        raise invalid(given.place("type"), f"{kind!r}. Expected one of: {', '.join(TYPES)}.")
    item_id = _id_of(given, kind)
    return _message(given, item_id) if kind == "message" else _other(given, kind, item_id)


def item_json(message: Message, *, status: str = "completed") -> dict[str, Any]:
    """The item as clients get it; `status` is that of a message that is stored as plain text."""
    (message,) = inlined([message])
    if message.item is None:
        content = [parts.text(message.role, message.content)]
        shown: dict[str, Any] = {"role": message.role, "status": status, "content": content}
    else:
        shown = _completed(message.item, message.type)
        if message.type == "message":
            shown = {"role": message.role, **shown}
    return {"id": message.item_id, "type": message.type, **_without(shown, "id", "type")}


def _message(given: Body, item_id: str) -> Draft:
    role = given.need("role", str)
    if role not in ROLES:
        raise invalid(given.place("role"), f"{role!r}. Expected one of: {', '.join(ROLES)}.")
    status = given.choice("status", *_STATUSES) or "completed"
    given.choice("phase", "commentary", "final_answer")
    content = given.given.get("content")
    if content is None:
        raise missing(given.place("content"))
    if isinstance(content, str):
        content = [parts.text(role, content)]
    elif not isinstance(content, list):
        raise mistyped(given.place("content"), content, str, list)
    # An empty message of a model that only called tools.
    content = parts.checked(content, given.place("content")) or [parts.text(role, "")]
    told = Draft(role=role, content=parts.words(content), item_id=item_id)
    item = {key: value for key, value in given.given.items() if value is not None}
    is_plain = len(content) == 1 and parts.is_plain(content[0]) and set(item) <= _PLAIN_KEYS
    if is_plain and status == "completed":
        return told
    whole = {**_without(item, "id"), "type": "message", "status": status, "content": content}
    return Draft(role=role, content=told.content, item=whole, item_id=item_id)


def _other(given: Body, kind: str, item_id: str) -> Draft:
    for key, kinds in _NEEDS[kind].items():
        _check_field(given, key.removesuffix("?"), kinds, needed=not key.endswith("?"))
    if kind not in _WITHOUT_STATUS or kind in {"reasoning", "mcp_call"}:
        given.choice("status", *(_STATUSES if kind in {"function_call", "reasoning"} else _WORKING))
    if kind == "reasoning" and not (item_id or given.has("encrypted_content")):
        raise InvalidItem("Invalid item: reasoning needs its `id` or its `encrypted_content`.", param="item")
    for name in ("summary", "content") if kind == "reasoning" else ("output",):
        _check_parts(given, name, kind)
    called = given.given.get("name")
    item = {key: value for key, value in given.given.items() if value is not None}
    return Draft(
        role=_role(kind),
        type=kind,
        content=_words(item, kind),
        name=called if isinstance(called, str) else "",
        item=_completed(_without(item, "id"), kind),
        item_id=item_id,
    )


def _words(item: Mapping[str, Any], kind: str) -> str:
    """What an item says, for prompts and for search."""
    if kind == "compaction":
        return unsealed(item["encrypted_content"])
    # What a model thought is no part of what was said, and never found.
    return "" if kind == "reasoning" else parts.words(item.get("output"))


def _check_field(given: Body, key: str, kinds: tuple[type, ...], *, needed: bool) -> None:
    value = given.given.get(key)
    if value is None and needed:
        raise missing(given.place(key))
    if value is not None and type(value) not in kinds:
        raise mistyped(given.place(key), value, *kinds)
    if key in {"call_id", "name"} and needed and not value:
        raise invalid(given.place(key), "it is empty.")
    if key == "name" and isinstance(value, str) and len(value) > LONGEST_NAME:
        raise invalid(given.place(key), f"string too long. Expected at most {LONGEST_NAME} characters.")


def _check_parts(given: Body, name: str, kind: str) -> None:
    """Lists of parts are read by prompts and by clients: they have to be what they look like."""
    value = given.given.get(name)
    if isinstance(value, list) and kind in {"reasoning", "function_call_output", "custom_tool_call_output"}:
        parts.checked(value, given.place(name))


def _id_of(given: Body, kind: str) -> str:
    """The id that came with an item; '' for none."""
    item_id = given.get("id", str)
    if item_id is None:
        return ""
    prefix, place = prefix_of(kind), given.place("id")
    if prefix != _UNKNOWN_PREFIX and not item_id.startswith(prefix):
        raise invalid(place, f"'{item_id}'. Expected an ID that begins with '{prefix}'.")
    if not is_item_id(item_id):
        raise invalid(
            place, f"an ID has 1 to {LONGEST_ID} letters, digits, underscores, dashes, dots or colons."
        )
    return item_id


def is_item_id(text: str) -> bool:
    """Can this be the id of an item at all?"""
    return len(text) <= LONGEST_ID and _ID.fullmatch(text) is not None


def _role(kind: str) -> str:
    if kind in _TOLD_BY_THE_APPLICATION:
        return Message.Role.DEVELOPER
    is_answer = kind.endswith("_output") or kind == "mcp_approval_response"
    return Message.Role.TOOL if is_answer else Message.Role.ASSISTANT


def _completed(item: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The item with what clients need to find in it, also where the REST API took it with less."""
    found = {**_FILLED.get(kind, {}), **item}
    if kind not in _WITHOUT_STATUS:
        found["status"] = item.get("status") or "completed"
    for name in ("content", "output"):
        if isinstance(found.get(name), list) and kind != "shell_call_output":
            found[name] = parts.completed(found[name])
    return found


def _without(item: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in names}
