"""What each call of the REST API takes: checked whole, and nothing unknown is passed over."""

from collections.abc import Callable
from typing import Any

from rest_framework import serializers

from convo import history
from convo.errors import InvalidRequest
from convo.history import MOST_FILES, Draft
from convo.http.rest.values import AgentName, Base64, Json, Metadata, Strict, Text
from convo.models import Feedback, Message, Session
from convo.turns import OnBusy

# A session is deleted, not put into a state.
STATES = [state for state in Session.State.values if state != Session.State.DELETED]
# Where what is said in a session may stay; what keeps nothing at all is an agent's own choice.
STORAGES = [Session.Storage.KEPT.value, Session.Storage.EPHEMERAL.value]
STORAGE_HELP = "`ephemeral`: a temporary chat, whose words are in the cache alone for as long as it is used."
ITEM_TYPES = ["message", "function_call", "function_call_output", "reasoning"]


class NewSession(Strict):
    """Create a session. With a `ref` of your own that exists already, that session is returned instead."""

    agent = AgentName(required=False, help_text="Who answers; the default agent when left out.")
    title = Text(required=False, max_length=300, allow_blank=True)
    metadata = Metadata(required=False)
    ref = Text(required=False, max_length=255, help_text="Your own name for it, unique per user.")
    user = Text(
        required=False, max_length=255, help_text="The end user whom it belongs to (with an API key)."
    )
    storage = serializers.ChoiceField(STORAGES, required=False, help_text=STORAGE_HELP)


class SessionChange(Strict):
    """Change a session: rename it, choose its agent, archive or reopen it."""

    agent = AgentName(required=False)
    title = Text(required=False, max_length=300, allow_blank=True)
    metadata = Metadata(required=False)
    state = serializers.ChoiceField(STATES, required=False)


class Answered(Strict):
    """How the answer is wanted: whole, or word by word with `stream` or `Accept: text/event-stream`."""

    stream = serializers.BooleanField(required=False, default=False)
    on_disconnect = serializers.ChoiceField(
        ["finish", "cancel"], required=False, help_text="When a stream's reader leaves: go on, or stop."
    )
    agent = AgentName(required=False, help_text="Answer as this agent, this once.")
    user = Text(required=False, max_length=255)


class NewFile(Strict):
    """An image (PNG, JPEG, GIF, WebP), or a text in UTF-8."""

    name = Text(max_length=255)
    mime = Text(required=False, max_length=100, help_text="Not needed: what it is, its data says.")
    data = Base64(help_text="In base64.")  # type: ignore[assignment]  # the field; the class has its own


class Query(Answered):
    """Ask in this session."""

    message = Text(
        allow_blank=True,
        help_text="It may be empty where there are files.",
        style={"base_template": "textarea.html"},
    )
    files = serializers.ListField(child=NewFile(), required=False, max_length=MOST_FILES)
    on_busy = serializers.ChoiceField(
        [choice.value for choice in OnBusy],
        required=False,
        default=OnBusy.REJECT.value,
        help_text="When a turn is running: refuse, wait in line, or take its place.",
    )

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if not given["message"].strip() and not given.get("files"):
            raise serializers.ValidationError({"message": "This field may not be blank."}, code="blank")
        return given


class NewQuery(Query):
    """Ask in a session, or in a new one, whose id comes back with the answer."""

    session = Text(required=False, help_text="Its id; a new session when left out.")
    ref = Text(required=False, max_length=255, help_text="Or your own name for it, new or known.")
    storage = serializers.ChoiceField(STORAGES, required=False, help_text=f"Of a new session. {STORAGE_HELP}")

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if "session" in given and "ref" in given:
            raise serializers.ValidationError({"ref": "Give `session` or `ref`, not both."})
        return super().validate(given)


class Again(Answered):
    """Answer once more."""


class Edit(Answered):
    """Ask another question in a turn's place."""

    message = Text(style={"base_template": "textarea.html"})


class Thumb(Strict):
    """Say what you think of a reply."""

    value = serializers.ChoiceField(Feedback.Value.labels)
    note = Text(
        required=False,
        max_length=2000,
        allow_blank=True,
        default="",
        help_text="Why, in your words.",
        style={"base_template": "textarea.html"},
    )


class NewMessage(Strict):
    """One message that was made elsewhere."""

    role = serializers.ChoiceField(Message.Role.choices)
    content = Text(required=False, allow_blank=True, default="")
    name = Text(required=False, max_length=200)
    item = Json(required=False, help_text="A tool call, its result, or a message of parts.")

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if "item" in given:
            _check_item(given["item"], given["role"])
        elif not given["content"]:
            raise serializers.ValidationError({"content": "A message needs content or an item."})
        elif given["role"] == Message.Role.TOOL:
            raise serializers.ValidationError({"item": "A tool's result is an item with a call_id."})
        return given


class NewMessages(Strict):
    """Append messages without asking a model: all of them, or none."""

    messages = serializers.ListField(child=NewMessage(), allow_empty=False, max_length=1000)
    user = Text(required=False, max_length=255)


def draft(given: dict[str, Any]) -> Draft:
    """The message to append, from what was checked."""
    item = given.get("item") or {}
    called = item["name"] if item.get("type") == "function_call" else ""
    return Draft(
        role=given["role"],
        content=given["content"] or _text_of(item),
        type=item.get("type", "message"),
        name=given.get("name") or called,
        item=item or None,
    )


def _check_item(item: Any, role: str) -> None:
    if not isinstance(item, dict) or item.get("type") not in ITEM_TYPES:
        raise serializers.ValidationError({"item": {"type": f"One of: {', '.join(ITEM_TYPES)}."}})
    whose = {"message": role, "function_call_output": "tool"}.get(item["type"], "assistant")
    if role != whose:
        raise serializers.ValidationError({"role": f"An item of type {item['type']} has the role {whose!r}."})
    if item.get("role", role) != role:
        raise serializers.ValidationError({"item": {"role": f"The message has the role {role!r}."}})
    if role == Message.Role.TOOL and item["type"] == "message":
        raise serializers.ValidationError({"item": {"type": "A tool's result is a function_call_output."}})
    for key, is_right in _ITEM_KEYS[item["type"]].items():
        if not is_right(item.get(key)):
            raise serializers.ValidationError({"item": {key: "Missing, empty or of the wrong type."}})
    for part in history.parts_of(item):
        try:
            history.check(part, "item")
        except InvalidRequest as error:
            raise serializers.ValidationError({"item": error.message}) from error


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_parts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_part, value))


def _is_part(part: Any) -> bool:
    """Could a prompt be built from it? What is of the wrong type here would fail every later turn."""
    return (
        isinstance(part, dict)
        and _is_name(part.get("type"))
        and all(isinstance(part.get(key, ""), str) for key in _PART_KEYS)
    )


_PART_KEYS = ("text", "image_url", "detail", "file_data", "file_id", "filename")
_ITEM_KEYS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "function_call": {"call_id": _is_name, "name": _is_name, "arguments": _is_text},
    "function_call_output": {
        "call_id": _is_name,
        "output": lambda value: _is_text(value) or _are_parts(value),
    },
    "message": {"content": _are_parts},
    "reasoning": {"content": lambda value: not value or _are_parts(value)},
}


def _text_of(item: dict[str, Any]) -> str:
    """The words of an item, for reading and searching; the item itself is kept beside them."""
    parts = item.get("output" if item.get("type") == "function_call_output" else "content") or ""
    return parts if isinstance(parts, str) else "\n".join(part["text"] for part in parts if "text" in part)
