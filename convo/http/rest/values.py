"""The kinds of fields that calls have, as strict in a form as in JSON."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.utils.html import is_html_input

from convo import agents
from convo.errors import InvalidRequest
from convo.history import decoded
from convo.http.parsing import DEEPEST, parse_json

# What Django's forms and the browsable API add by themselves.
_EXEMPT = {"csrfmiddlewaretoken", "format"}


class Strict(serializers.Serializer[Any]):
    """A serializer that refuses the fields it doesn't know."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(_names(data) - set(self.fields) - _EXEMPT)
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


class Lines(serializers.ListField):
    """Several texts; in a form, one on each line."""

    def get_value(self, dictionary: Any) -> Any:
        if not is_html_input(dictionary):
            return super().get_value(dictionary)
        return [line for line in dictionary.get(self.field_name, "").splitlines() if line.strip()]


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


@extend_schema_field(OpenApiTypes.BYTE)
class Base64(serializers.Field[bytes, str, str, Any]):
    """The data of a file."""

    def to_internal_value(self, data: Any) -> bytes:
        if not isinstance(data, str):
            raise serializers.ValidationError("Not a string.")
        try:
            return decoded(data)
        except InvalidRequest as error:
            raise serializers.ValidationError(error.message) from error


def _names(data: Any) -> set[str]:
    """The fields that were sent; a form names those inside a list `messages[0]role`."""
    if is_html_input(data):
        return {name.partition("[")[0] for name in data}
    return set(data) if hasattr(data, "keys") else set()


def _of_a_form(value: Any) -> bool:
    return isinstance(value, str) and getattr(value, "is_json_string", False)


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(entry, levels - 1) for entry in inner)
