"""What each call of the REST API takes: checked whole, and nothing unknown is passed over."""

from collections.abc import Callable
from typing import Any

from rest_framework import serializers

from convo import agents
from convo.history import Draft
from convo.http.parsing import DEEPEST, parse_json
from convo.models import Message, Session
from convo.turns import OnBusy

# What Django's forms and the browsable API add by themselves.
_EXEMPT = {"csrfmiddlewaretoken", "format"}

# A session is deleted, not put into a state.
STATES = [state for state in Session.State.values if state != Session.State.DELETED]
ITEM_TYPES = ["message", "function_call", "function_call_output", "reasoning"]


class Strict(serializers.Serializer[Any]):
    """A serializer that refuses the fields it doesn't know."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields) - _EXEMPT) if hasattr(data, "keys") else []
        if unknown:
            known = ", ".join(name for name, field in self.fields.items() if not field.read_only)
            raise serializers.ValidationError(
                {unknown[0]: f"There is no field {unknown[0]!r} here; there are: {known}."}, code="unknown"
            )
        return super().to_internal_value(data)


class Text(serializers.CharField):
    """Text kept to the letter; in JSON it must be a string, not something that looks like one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Not a string.")
        return super().to_internal_value(data)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if isinstance(data, str) and data and not data.strip() and not self.allow_blank:
            self.fail("blank")
        return super().run_validation(data)


class Json(serializers.JSONField):
    """JSON as strict as the body's, in a form too, and no deeper than can be written again anywhere."""

    def get_value(self, dictionary: Any) -> Any:
        value = super().get_value(dictionary)
        # Forms send `null` or nothing for what was left out.
        return serializers.empty if _of_a_form(value) and value.strip() in {"", "null"} else value

    def to_internal_value(self, data: Any) -> Any:
        value = parse_json(data.encode()) if _of_a_form(data) else data
        if _deeper(value, DEEPEST):
            raise serializers.ValidationError(f"Nested deeper than {DEEPEST} levels.")
        return super().to_internal_value(value)


class Metadata(Json):
    """A flat map of strings: 16 keys of 64 characters, values of 512."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
            raise serializers.ValidationError("A flat map of strings is expected.")
        if len(value) > 16:
            raise serializers.ValidationError("At most 16 keys.")
        if any(not 0 < len(key) <= 64 or len(entry) > 512 for key, entry in value.items()):
            raise serializers.ValidationError("Keys take 1 to 64 characters, values up to 512.")
        return value


class AgentName(serializers.CharField):
    """The name of one of the agents of agents.yaml."""

    def to_internal_value(self, data: Any) -> str:
        return agents.get(super().to_internal_value(data)).name


class NewSession(Strict):
    """Create a session. With a `ref` of your own that exists already, that session is returned instead."""

    agent = AgentName(required=False, help_text="Who answers; the default agent when left out.")
    title = Text(required=False, max_length=300, allow_blank=True)
    metadata = Metadata(required=False)
    ref = Text(required=False, max_length=255, help_text="Your own name for it, unique per user.")
    user = Text(
        required=False, max_length=255, help_text="The end user whom it belongs to (with an API key)."
    )


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


class Query(Answered):
    """Ask in this session."""

    message = Text(style={"base_template": "textarea.html"})
    on_busy = serializers.ChoiceField(
        [choice.value for choice in OnBusy],
        required=False,
        default=OnBusy.REJECT.value,
        help_text="When a turn is running: refuse, wait in line, or take its place.",
    )


class NewQuery(Query):
    """Ask in a session, or in a new one, whose id comes back with the answer."""

    session = Text(required=False, help_text="Its id; a new session when left out.")
    ref = Text(required=False, max_length=255, help_text="Or your own name for it, new or known.")

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if "session" in given and "ref" in given:
            raise serializers.ValidationError({"ref": "Give `session` or `ref`, not both."})
        return given


class Again(Answered):
    """Answer once more."""


class Edit(Answered):
    """Ask another question in a turn's place."""

    message = Text(style={"base_template": "textarea.html"})


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
        and all(isinstance(part.get(key, ""), str) for key in ("text", "image_url", "detail"))
    )


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


def _of_a_form(value: Any) -> bool:
    return isinstance(value, str) and getattr(value, "is_json_string", False)


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(entry, levels - 1) for entry in inner)
