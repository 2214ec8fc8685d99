"""A JSON body read field by field: null is absent, the unknown is passed over, mistakes have a place."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from convo.errors import InvalidRequest, MissingParameter, WrongType
from convo.http.parsing import DEEPEST

T = TypeVar("T")

METADATA_KEYS, METADATA_KEY, METADATA_VALUE = 16, 64, 512
_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def missing(place: str) -> MissingParameter:
    return MissingParameter(f"Missing required parameter: '{place}'.", param=place)


def invalid(place: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{place}': {why}", param=place)


def mistyped(place: str, value: object, *expected: type) -> WrongType:
    wanted = " or ".join(_KINDS[kind] for kind in expected)
    got = _KINDS.get(type(value), "something else")
    where = f"'{place}'" if place else "the body"
    return WrongType(
        f"Invalid type for {where}: expected {wanted}, but got {got} instead.", param=place or None
    )


def of_type(value: Any, kind: type[T], place: str) -> T:
    """The value, if it is of this JSON type: true is no number, and every integer is one."""
    if kind is float and type(value) is int and abs(value) < 2**1000:
        return kind(value)  # type: ignore[call-arg]
    if type(value) is not kind:
        raise mistyped(place, value, kind)
    return value


class Body:
    """One JSON object and the place that it has in the request."""

    def __init__(self, given: object, at: str = "") -> None:
        if not isinstance(given, Mapping):
            raise mistyped(at, given, dict)
        self.given, self.at = given, at

    def place(self, name: str) -> str:
        """Where this field is, as `items[0].content`."""
        return f"{self.at}.{name}" if self.at else name

    def has(self, name: str) -> bool:
        return self.given.get(name) is not None

    def get(self, name: str, kind: type[T]) -> T | None:
        """The field, which must be of this type; None when it is absent."""
        value = self.given.get(name)
        return None if value is None else of_type(value, kind, self.place(name))

    def need(self, name: str, kind: type[T]) -> T:
        """The field, which must be there."""
        value = self.get(name, kind)
        if value is None:
            raise missing(self.place(name))
        return value

    def text(self, name: str, *, most: int | None = None) -> str | None:
        value = self.get(name, str)
        if value is not None and most is not None and len(value) > most:
            raise invalid(self.place(name), f"string too long. Expected at most {most} characters.")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self.get(name, bool)
        return default if value is None else value

    def whole(self, name: str, *, least: int = 0, most: int = 2**53) -> int | None:
        value = self.get(name, int)
        if value is not None and not least <= value <= most:
            raise invalid(self.place(name), f"expected a value from {least} to {most}.")
        return value

    def number(self, name: str, *, least: float, most: float) -> float | None:
        value = self.get(name, float)
        if value is not None and not least <= value <= most:
            raise invalid(self.place(name), f"expected a value from {least} to {most}.")
        return value

    def choice(self, name: str, *options: str) -> str | None:
        value = self.get(name, str)
        if value is not None and value not in options:
            raise invalid(self.place(name), f"{value!r}. Expected one of: {', '.join(options)}.")
        return value

    def entries(self, name: str, *, least: int = 0, most: int | None = None) -> list[Any] | None:
        """The entries of an array."""
        value = self.get(name, list)
        if value is None:
            return None
        if len(value) < least or (most is not None and len(value) > most):
            expected = f"at least {least}" if most is None else f"{least} to {most}"
            raise invalid(self.place(name), f"expected an array of {expected} entries, got {len(value)}.")
        return value

    def inner(self, name: str) -> "Body | None":
        """The object in this field."""
        value = self.given.get(name)
        return None if value is None else Body(value, self.place(name))

    def metadata(self, name: str = "metadata") -> dict[str, str] | None:
        """A flat map of strings: 16 keys of 64 characters, values of 512."""
        found = self.inner(name)
        if found is None:
            return None
        if len(found.given) > METADATA_KEYS:
            raise invalid(found.at, f"expected at most {METADATA_KEYS} keys, got {len(found.given)}.")
        for key in found.given:
            if not 0 < len(key) <= METADATA_KEY:
                raise invalid(found.at, f"keys take 1 to {METADATA_KEY} characters.")
            if found.text(key, most=METADATA_VALUE) is None:
                raise mistyped(found.place(key), None, str)
        return dict(found.given)


def check_storable(value: Any, place: str, levels: int = DEEPEST) -> None:
    """Refuse what is nested deeper than can be written again anywhere, and numbers that no JSON has."""
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(place, "this number is too large.")
    if not isinstance(value, dict | list):
        return
    if levels == 0:
        raise invalid(place, f"nested deeper than {DEEPEST} levels.")
    for inner in value.values() if isinstance(value, dict) else value:
        check_storable(inner, place, levels - 1)
