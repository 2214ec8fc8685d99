"""The request bodies of the REST API. Unknown fields are rejected."""

from collections.abc import Callable
from typing import Any, TypedDict

from rest_framework import serializers

from convo.errors import InvalidRequest
from convo.history import NewMessage
from convo.history.files import MAX_FILES, check_part, parts_of
from convo.models import Feedback, Item, Message, Session
from convo.rest.serializer_fields import (
    AgentNameField,
    Base64Field,
    MetadataField,
    StrictCharField,
    StrictJSONField,
    StrictSerializer,
)
from convo.turns import OnBusy

# Clients delete a session with DELETE, and not by setting its state.
STATES = [state for state in Session.State.values if state != Session.State.DELETED]
# A request may choose between these; only an agent's configuration can choose `none`.
STORAGES = [Session.Storage.PERSISTENT.value, Session.Storage.EPHEMERAL.value]
STORAGE_HELP = "`ephemeral`: a temporary chat, whose texts are in the cache only, for as long as it is used."
ITEM_TYPES = ["message", "function_call", "function_call_output", "reasoning"]


class QueryData(TypedDict, total=False):
    """The fields of a question that are checked together."""

    message: str
    files: list[object]
    session: str
    ref: str


class MessageData(TypedDict, total=False):
    """The fields of a message that was made elsewhere."""

    role: str
    content: str
    name: str
    item: Item


class NewSessionSerializer(StrictSerializer):
    """Create a session. If one with this `ref` exists already, that session is returned instead."""

    agent = AgentNameField(
        required=False, help_text="The agent that answers; the default agent when left out."
    )
    title = StrictCharField(required=False, max_length=300, allow_blank=True)
    metadata = MetadataField(required=False)
    ref = StrictCharField(
        required=False, max_length=255, help_text="Your own name for the session, unique per user."
    )
    user = StrictCharField(
        required=False, max_length=255, help_text="The end user to whom it belongs (with an API key)."
    )
    storage = serializers.ChoiceField(STORAGES, required=False, help_text=STORAGE_HELP)


class SessionChangeSerializer(StrictSerializer):
    """Change a session: rename it, choose its agent, archive or reopen it."""

    agent = AgentNameField(required=False)
    title = StrictCharField(required=False, max_length=300, allow_blank=True)
    metadata = MetadataField(required=False)
    state = serializers.ChoiceField(STATES, required=False)


class ReplyOptionsSerializer(StrictSerializer):
    """Options of a reply: one JSON object, or events with `stream` or `Accept: text/event-stream`."""

    stream = serializers.BooleanField(required=False, default=False)
    on_disconnect = serializers.ChoiceField(
        ["finish", "cancel"],
        required=False,
        help_text="If the client disconnects: finish the reply, or cancel.",
    )
    agent = AgentNameField(required=False, help_text="Use this agent for this turn only.")
    user = StrictCharField(required=False, max_length=255)


class NewFileSerializer(StrictSerializer):
    """An image (PNG, JPEG, GIF or WebP) or a text file in UTF-8."""

    name = StrictCharField(max_length=255)
    mime = StrictCharField(required=False, max_length=100, help_text="Ignored: the data decides the type.")
    data = Base64Field(help_text="The content in base64.")  # type: ignore[assignment]  # hides Serializer.data


class QuerySerializer(ReplyOptionsSerializer):
    """Ask a question in this session."""

    message = StrictCharField(
        allow_blank=True,
        help_text="May be empty if there are files.",
        style={"base_template": "textarea.html"},
    )
    files = serializers.ListField(child=NewFileSerializer(), required=False, max_length=MAX_FILES)
    on_busy = serializers.ChoiceField(
        [choice.value for choice in OnBusy],
        required=False,
        default=OnBusy.REJECT.value,
        help_text="If a turn is running: reject this one, queue it, or interrupt the running one.",
    )

    def validate(self, attrs: QueryData) -> QueryData:
        if not attrs["message"].strip() and not attrs.get("files"):
            raise serializers.ValidationError({"message": "This field may not be blank."}, code="blank")
        return attrs


class NewQuerySerializer(QuerySerializer):
    """Ask a question in a session, or in a new one, whose id is returned with the reply."""

    session = StrictCharField(required=False, help_text="The id of the session; a new session when left out.")
    ref = StrictCharField(
        required=False, max_length=255, help_text="Or your own name for it, new or existing."
    )
    storage = serializers.ChoiceField(
        STORAGES, required=False, help_text=f"For a new session. {STORAGE_HELP}"
    )

    def validate(self, attrs: QueryData) -> QueryData:
        if "session" in attrs and "ref" in attrs:
            raise serializers.ValidationError({"ref": "Give `session` or `ref`, not both."})
        return super().validate(attrs)


class RegenerateSerializer(ReplyOptionsSerializer):
    """Answer the question of a turn once more."""


class EditSerializer(ReplyOptionsSerializer):
    """Ask an edited question in place of the one of a turn."""

    message = StrictCharField(style={"base_template": "textarea.html"})


class FeedbackSerializer(StrictSerializer):
    """Give feedback on a reply."""

    value = serializers.ChoiceField(Feedback.Value.labels)
    note = StrictCharField(
        required=False,
        max_length=2000,
        allow_blank=True,
        default="",
        help_text="Your reason, in your own words.",
        style={"base_template": "textarea.html"},
    )


class NewMessageSerializer(StrictSerializer):
    """One message that was made elsewhere."""

    role = serializers.ChoiceField(Message.Role.choices)
    content = StrictCharField(required=False, allow_blank=True, default="")
    name = StrictCharField(required=False, max_length=200)
    item = StrictJSONField(
        required=False, help_text="A function call, its output, reasoning, or a message with parts."
    )

    def validate(self, attrs: MessageData) -> MessageData:
        if "item" in attrs:
            _check_item(attrs["item"], attrs["role"])
        elif not attrs["content"]:
            raise serializers.ValidationError({"content": "A message needs content or an item."})
        elif attrs["role"] == Message.Role.TOOL:
            raise serializers.ValidationError({"item": "A tool's result is an item with a call_id."})
        return attrs


class NewMessagesSerializer(StrictSerializer):
    """Append messages without asking a model: all of them, or none."""

    messages = serializers.ListField(child=NewMessageSerializer(), allow_empty=False, max_length=1000)
    user = StrictCharField(required=False, max_length=255)


def new_message(data: MessageData) -> NewMessage:
    """Build the message to append from its validated data."""
    item = data.get("item") or {}
    function_name = item["name"] if item.get("type") == "function_call" else ""
    return NewMessage(
        role=data["role"],
        content=data["content"] or _text_of(item),
        type=item.get("type", "message"),
        name=data.get("name") or function_name,
        item=item or None,
    )


def _check_item(item: Any, role: str) -> None:
    if not isinstance(item, dict) or item.get("type") not in ITEM_TYPES:
        raise serializers.ValidationError({"item": {"type": f"One of: {', '.join(ITEM_TYPES)}."}})
    item_role = {"message": role, "function_call_output": "tool"}.get(item["type"], "assistant")
    if role != item_role:
        raise serializers.ValidationError(
            {"role": f"An item of type {item['type']} has the role {item_role!r}."}
        )
    if item.get("role", role) != role:
        raise serializers.ValidationError({"item": {"role": f"The message has the role {role!r}."}})
    if role == Message.Role.TOOL and item["type"] == "message":
        raise serializers.ValidationError({"item": {"type": "A tool's result is a function_call_output."}})
    for key, is_valid in _ITEM_KEYS[item["type"]].items():
        if not is_valid(item.get(key)):
            raise serializers.ValidationError({"item": {key: "Missing, empty or of the wrong type."}})
    for part in parts_of(item):
        try:
            check_part(part, "item")
        except InvalidRequest as error:
            raise serializers.ValidationError({"item": error.message}) from error


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_parts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_part, value))


def _is_part(part: object) -> bool:
    """Return whether a prompt can be built from this part; a wrong type would fail every later turn."""
    return (
        isinstance(part, dict)
        and _is_name(part.get("type"))
        and all(isinstance(part.get(key, ""), str) for key in _PART_KEYS)
    )


_PART_KEYS = ("text", "image_url", "detail", "file_data", "file_id", "filename")
_ITEM_KEYS: dict[str, dict[str, Callable[[object], bool]]] = {
    "function_call": {"call_id": _is_name, "name": _is_name, "arguments": _is_text},
    "function_call_output": {
        "call_id": _is_name,
        "output": lambda value: _is_text(value) or _are_parts(value),
    },
    "message": {"content": _are_parts},
    "reasoning": {"content": lambda value: not value or _are_parts(value)},
}


def _text_of(item: Item) -> str:
    """Return the plain text of an item, for reading and searching; the item itself is stored as well."""
    is_result = item.get("type") == "function_call_output"
    parts = (item.get("output") if is_result else item.get("content")) or ""
    return parts if isinstance(parts, str) else "\n".join(part["text"] for part in parts if "text" in part)
