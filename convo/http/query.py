"""Read the query parameters of a request one by one, on every surface."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from django.utils.dateparse import parse_datetime

from convo.errors import InvalidRequest, UnknownParameter
from convo.http.converters import parse_whole_number

MAX_PAGE_SIZE, DEFAULT_PAGE_SIZE = 100, 20
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class QueryParams:
    """Parameters by their names, of a query string or of headers; with `ignore_empty`, `name=` is absent."""

    def __init__(self, values: Mapping[str, str], *, ignore_empty: bool = False) -> None:
        self._values, self._ignore_empty = values, ignore_empty

    def check_names(self, *names: str) -> None:
        """Refuse parameters of other names, and values with unprintable characters."""
        for name, value in self._values.items():
            if name not in names:
                raise UnknownParameter(
                    f"Unknown parameter {name!r}. The parameters here are: {', '.join(sorted(names))}.",
                    param=name,
                )
            if "\0" in value or (name != "query" and not value.isprintable()):
                raise InvalidRequest(f"`{name}` contains characters that cannot be printed.", param=name)

    def text(self, name: str) -> str:
        return self._values.get(name, "")

    def integer(
        self,
        name: str,
        *,
        min_value: int = 0,
        max_value: int = 10**15,
        wrong_type: type[InvalidRequest] = InvalidRequest,
    ) -> int | None:
        """Return the whole number, or None without the parameter; raise `wrong_type` for other text."""
        value = self._get(name)
        if value is None:
            return None
        number = parse_whole_number(value)
        if number is not None and min_value <= number <= max_value:
            return number
        is_integer = parse_whole_number(value.removeprefix("-")) is not None
        raise (InvalidRequest if is_integer else wrong_type)(
            f"`{name}` must be a whole number from {min_value} to {max_value}.", param=name
        )

    def page_size(self, name: str = "page_size", *, wrong_type: type[InvalidRequest] = InvalidRequest) -> int:
        size = self.integer(name, min_value=1, max_value=MAX_PAGE_SIZE, wrong_type=wrong_type)
        return size or DEFAULT_PAGE_SIZE

    def boolean(self, name: str) -> bool:
        return _BOOLEANS[self.choice(name, "false", "true", "0", "1", ignore_case=True)]

    def choice(self, name: str, *options: str, ignore_case: bool = False) -> str:
        """Return the option that the parameter names, or the first one without the parameter."""
        value = self._get(name)
        if value is None:
            return options[0]
        option = value.lower() if ignore_case else value
        if option not in options:
            raise InvalidRequest(f"`{name}` must be one of: {', '.join(filter(None, options))}.", param=name)
        return option

    def mapping(self, name: str) -> dict[str, str]:
        """Return the parameters of one map: `metadata[topic]=x`."""
        matches = {key: re.fullmatch(rf"{name}\[(.+)\]", key) for key in self._values}
        entries = {match[1]: self._values[key] for key, match in matches.items() if match}
        if not "".join([*entries, *entries.values()]).isprintable():
            raise InvalidRequest(f"`{name}` contains characters that cannot be printed.", param=name)
        return entries

    def date_time(self, name: str) -> datetime | None:
        value = self._get(name)
        if value is None:
            return None
        try:
            parsed = parse_datetime(value)
            if parsed and parsed.tzinfo:
                return parsed.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise InvalidRequest(f"`{name}` must be a date and time such as 2026-11-20T13:00:00Z.", param=name)

    def reject_both(self, first: str, second: str) -> None:
        """Raise if both parameters are given."""
        if first in self._values and second in self._values:
            raise InvalidRequest(f"Give `{first}` or `{second}`, not both.", param=second)

    def _get(self, name: str) -> str | None:
        value = self._values.get(name)
        return None if value == "" and self._ignore_empty else value
