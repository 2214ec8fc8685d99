"""Read a JSON body field by field.

null counts as absent, unknown fields are ignored, and an error names the path of the field.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from convo.errors import InvalidRequest, MissingParameter, WrongType
from convo.http.strict_json import MAX_DEPTH

T = TypeVar("T")

MAX_METADATA_KEYS, MAX_METADATA_KEY_LENGTH, MAX_METADATA_VALUE_LENGTH = 16, 64, 512
_TYPE_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def missing(path: str) -> MissingParameter:
    return MissingParameter(f"Missing required parameter: '{path}'.", param=path)


def invalid(path: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{path}': {reason}", param=path)


def wrong_type(path: str, value: object, *expected: type) -> WrongType:
    expected_names = " or ".join(_TYPE_NAMES[expected_type] for expected_type in expected)
    actual_name = _TYPE_NAMES.get(type(value), "something else")
    subject = f"'{path}'" if path else "the body"
    return WrongType(
        f"Invalid type for {subject}: expected {expected_names}, but got {actual_name} instead.",
        param=path or None,
    )


def require_type(value: Any, json_type: type[T], path: str) -> T:
    """Return the value if it has this JSON type. true is not a number; an integer is accepted as a number."""
    if json_type is float and type(value) is int and abs(value) < 2**1000:
        return json_type(value)  # type: ignore[call-arg]
    if type(value) is not json_type:
        raise wrong_type(path, value, json_type)
    return value


class Body:
    """A JSON object and its path within the request."""

    def __init__(self, data: object, path: str = "") -> None:
        if not isinstance(data, Mapping):
            raise wrong_type(path, data, dict)
        self.data, self.path = data, path

    def path_of(self, name: str) -> str:
        """Return the path of this field, such as `items[0].content`."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        return self.data.get(name) is not None

    def get(self, name: str, json_type: type[T]) -> T | None:
        """Return the field, which must have this type, or None if it is absent."""
        value = self.data.get(name)
        return None if value is None else require_type(value, json_type, self.path_of(name))

    def require(self, name: str, json_type: type[T]) -> T:
        value = self.get(name, json_type)
        if value is None:
            raise missing(self.path_of(name))
        return value

    def text(self, name: str, *, max_length: int | None = None) -> str | None:
        value = self.get(name, str)
        if value is not None and max_length is not None and len(value) > max_length:
            raise invalid(self.path_of(name), f"string too long. Expected at most {max_length} characters.")
        return value

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self.get(name, bool)
        return default if value is None else value

    def integer(self, name: str, *, minimum: int = 0, maximum: int = 2**53) -> int | None:
        value = self.get(name, int)
        if value is not None and not minimum <= value <= maximum:
            raise invalid(self.path_of(name), f"expected a value from {minimum} to {maximum}.")
        return value

    def number(self, name: str, *, minimum: float, maximum: float) -> float | None:
        value = self.get(name, float)
        if value is not None and not minimum <= value <= maximum:
            raise invalid(self.path_of(name), f"expected a value from {minimum} to {maximum}.")
        return value

    def choice(self, name: str, *options: str) -> str | None:
        value = self.get(name, str)
        if value is not None and value not in options:
            raise invalid(self.path_of(name), f"{value!r}. Expected one of: {', '.join(options)}.")
        return value

    def array(self, name: str, *, min_length: int = 0, max_length: int | None = None) -> list[Any] | None:
        value = self.get(name, list)
        if value is None:
            return None
        if len(value) < min_length or (max_length is not None and len(value) > max_length):
            expected = f"at least {min_length}" if max_length is None else f"{min_length} to {max_length}"
            raise invalid(self.path_of(name), f"expected an array of {expected} entries, got {len(value)}.")
        return value

    def nested(self, name: str) -> "Body | None":
        """Return the object in this field, or None if it is absent."""
        value = self.data.get(name)
        return None if value is None else Body(value, self.path_of(name))

    def metadata(self, name: str = "metadata") -> dict[str, str] | None:
        """Return a flat map of strings: at most 16 keys of up to 64 characters, values of up to 512."""
        metadata_body = self.nested(name)
        if metadata_body is None:
            return None
        if len(metadata_body.data) > MAX_METADATA_KEYS:
            raise invalid(
                metadata_body.path,
                f"expected at most {MAX_METADATA_KEYS} keys, got {len(metadata_body.data)}.",
            )
        for key in metadata_body.data:
            if not 0 < len(key) <= MAX_METADATA_KEY_LENGTH:
                raise invalid(
                    metadata_body.path, f"a key must have 1 to {MAX_METADATA_KEY_LENGTH} characters."
                )
            if metadata_body.text(key, max_length=MAX_METADATA_VALUE_LENGTH) is None:
                raise wrong_type(metadata_body.path_of(key), None, str)
        return dict(metadata_body.data)


def check_storable(value: Any, path: str, levels_left: int = MAX_DEPTH) -> None:
    """Refuse nesting that is too deep to be written as JSON again, and numbers that JSON cannot express."""
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(path, "this number is too large.")
    if not isinstance(value, dict | list):
        return
    if levels_left == 0:
        raise invalid(path, f"nested deeper than {MAX_DEPTH} levels.")
    for child in value.values() if isinstance(value, dict) else value:
        check_storable(child, path, levels_left - 1)
