"""Serializer fields, which are as strict in a form as in JSON."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.utils.html import is_html_input
from rest_framework.validators import ProhibitSurrogateCharactersValidator as SurrogateValidator

from convo import agents
from convo.errors import InvalidRequest
from convo.history.files import decode_base64
from convo.http.strict_json import MAX_DEPTH, parse_json

# Django's forms and the browsable API add these by themselves.
_IGNORED_FIELDS = {"csrfmiddlewaretoken", "format"}


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer that rejects unknown fields."""

    def to_internal_value(self, data: Any) -> Any:
        unknown_fields = sorted(_sent_names(data) - set(self.fields) - _IGNORED_FIELDS)
        if unknown_fields:
            known_fields = ", ".join(name for name, field in self.fields.items() if not field.read_only)
            message = f"Unknown field {unknown_fields[0]!r}. The fields here are: {known_fields}."
            raise serializers.ValidationError({unknown_fields[0]: message}, code="unknown")
        return super().to_internal_value(data)


class StrictCharField(serializers.CharField):
    """Text that is not trimmed; JSON must send a string, not a number that REST framework would convert."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)
        # Bodies with surrogates are refused when they are parsed; this validator loops over each character.
        self.validators = [each for each in self.validators if not isinstance(each, SurrogateValidator)]

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Not a string.")
        return super().to_internal_value(data)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if isinstance(data, str) and data and not data.strip() and not self.allow_blank:
            self.fail("blank")
        return super().run_validation(data)


class LinesField(serializers.ListField):
    """A list of texts; in a form, one on each line."""

    def get_value(self, dictionary: Any) -> Any:
        if not is_html_input(dictionary):
            return super().get_value(dictionary)
        return [line for line in dictionary.get(self.field_name, "").splitlines() if line.strip()]


class StrictJSONField(serializers.JSONField):
    """JSON parsed as strictly as a JSON body, in a form too, and nested no deeper than MAX_DEPTH."""

    def get_value(self, dictionary: Any) -> Any:
        value = super().get_value(dictionary)
        # Forms send `null` or nothing for a field that was left out.
        return serializers.empty if _is_form_json(value) and value.strip() in {"", "null"} else value

    def to_internal_value(self, data: Any) -> Any:
        value = parse_json(data.encode()) if _is_form_json(data) else data
        if _is_deeper_than(value, MAX_DEPTH):
            raise serializers.ValidationError(f"Nested deeper than {MAX_DEPTH} levels.")
        return super().to_internal_value(value)


class MetadataField(StrictJSONField):
    """A flat map of strings: up to 16 keys of 64 characters, values of up to 512."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
            raise serializers.ValidationError("Must be a flat map of strings.")
        if len(value) > 16:
            raise serializers.ValidationError("At most 16 keys.")
        if any(not 0 < len(key) <= 64 or len(entry) > 512 for key, entry in value.items()):
            raise serializers.ValidationError("Keys take 1 to 64 characters, values up to 512.")
        return value


class AgentNameField(serializers.CharField):
    """The name of an agent in agents.yaml."""

    def to_internal_value(self, data: Any) -> str:
        return agents.get(super().to_internal_value(data)).name


@extend_schema_field(OpenApiTypes.BYTE)
class Base64Field(serializers.Field[bytes, str, str, Any]):
    """The content of a file, encoded in base64."""

    def to_internal_value(self, data: Any) -> bytes:
        if not isinstance(data, str):
            raise serializers.ValidationError("Not a string.")
        try:
            return decode_base64(data)
        except InvalidRequest as error:
            raise serializers.ValidationError(error.message) from error


def _sent_names(data: Any) -> set[str]:
    """Return the names of the fields that were sent; a form names those in a list `messages[0]role`."""
    if is_html_input(data):
        return {name.partition("[")[0] for name in data}
    return set(data) if hasattr(data, "keys") else set()


def _is_form_json(value: Any) -> bool:
    return isinstance(value, str) and getattr(value, "is_json_string", False)


def _is_deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper_than(entry, levels - 1) for entry in children)
