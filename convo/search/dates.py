"""The days that a text speaks of, as words: `20230507` and its month `202305`. English, for now."""

import re
from collections.abc import Iterator
from datetime import date, timedelta

_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "few": 3}
_LENGTHS = {"day": 1, "week": 7, "month": 30, "year": 365}

_MONTH = f"(?P<month>{'|'.join(f'{name}|{name[:3]}' for name in _MONTHS)})\\.?"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_WRITTEN = [
    re.compile(r"\b(?P<year>(?:19|20)\d\d)-(?P<month>[01]\d)-(?P<day>[0-3]\d)\b"),
    re.compile(rf"\b{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?\b"),
    re.compile(rf"\b{_MONTH} {_DAY}\b(?:,? {_YEAR})?"),
    re.compile(rf"\b{_MONTH},? {_YEAR}\b"),
    re.compile(rf"\b(?:in|of|during|since|last|this|next|early|late) {_MONTH}(?=\W|$)"),
]
_RELATIVE = re.compile(
    r"\b(?:(?P<near>yesterday|today|tonight|tomorrow|last night|the other day)"
    r"|(?P<number>\d{1,2}|a|an|one|two|three|four|five|six|few) (?P<length>day|week|month|year)s? ago"
    r"|(?P<which>last|this|next|past) "
    rf"(?P<what>week|weekend|month|year|{'|'.join(_WEEKDAYS)}))\b"
)
_NEAR = {"yesterday": -1, "last night": -1, "the other day": -2, "tomorrow": 1}
_WHICH = {"last": -1, "past": -1, "this": 0, "next": 1}
# What tells a time without naming a day.
_TIME = re.compile(
    rf"\b(?:{'|'.join(_MONTHS)}|{'|'.join(_WEEKDAYS)}|(?:19|20)\d\d"
    r"|recently|lately|soon|ago|since|for (?:\w+ )?(?:day|week|month|year)s?)\b"
)
_WHEN = re.compile(r"\b(?:when|how long|(?:what|which) (?:day|date|month|year|time))\b")


# The last of a message's days, where it tells a time.
WHEN = "when"


def days_of(text: str, said: date) -> list[str]:
    """The words for the day that a message is from, and for those that it speaks of."""
    found = dict.fromkeys([*said_on(said), *spoken_of(text, said)])
    return [*found, WHEN] if tells_time(text) else list(found)


def said_on(day: date) -> list[str]:
    """The words for a day that something was said on."""
    return [_day(day), _month(day)]


def spoken_of(text: str, said: date) -> list[str]:
    """The days and months that a text speaks of which was said on this day."""
    lowered = text.lower()
    found = [*_written(lowered, said), *_relative(lowered, said)]
    return list(dict.fromkeys(found))


def wanted(query: str, today: date) -> list[str]:
    """The days and months that a question asks about; a month only where no day of it is named."""
    lowered = query.lower()
    found = [*_written(lowered, today), *_relative(lowered, today)]
    days = {word for word in found if len(word) == 8}
    months = {word for word in found if len(word) == 6 and not any(day.startswith(word) for day in days)}
    return sorted(days | months)


def tells_time(text: str) -> bool:
    """Does the text say when something was, or is to be?"""
    lowered = text.lower()
    return bool(_RELATIVE.search(lowered) or _TIME.search(lowered))


def asks_when(query: str) -> bool:
    return bool(_WHEN.search(query.lower()))


def _day(day: date) -> str:
    return day.strftime("%Y%m%d")


def _month(day: date) -> str:
    return day.strftime("%Y%m")


def _written(text: str, said: date) -> Iterator[str]:
    for pattern in _WRITTEN:
        for match in pattern.finditer(text):
            parts = match.groupdict()
            month = _number_of(parts["month"])
            year = int(parts.get("year") or _year_of(month, said))
            if day := parts.get("day"):
                try:
                    found = date(year, month, int(day))
                except ValueError:
                    continue
                yield _day(found)
            yield f"{year}{month:02}"


def _number_of(month: str) -> int:
    if month.isdecimal():
        return min(max(int(month), 1), 12)
    return next(number for number, name in enumerate(_MONTHS, 1) if name.startswith(month[:3]))


def _year_of(month: int, said: date) -> int:
    """Of a month without a year, the nearest one that is not far ahead."""
    return said.year if month <= said.month + 2 else said.year - 1


def _relative(text: str, said: date) -> Iterator[str]:
    for match in _RELATIVE.finditer(text):
        near, length, what = match["near"], match["length"], match["what"]
        if near:
            yield from said_on(said + timedelta(days=_NEAR.get(near, 0)))
        elif length:
            number = match["number"]
            count = int(number) if number.isdecimal() else _NUMBERS[number]
            yield from _around(said - timedelta(days=count * _LENGTHS[length]), length)
        elif what in _WEEKDAYS:
            ahead = (_WEEKDAYS.index(what) - said.weekday()) % 7
            step = ahead - 7 if match["which"] in {"last", "past"} else ahead
            yield from said_on(said + timedelta(days=step))
        else:
            span = "week" if what == "weekend" else what
            yield from _around(said + timedelta(days=_WHICH[match["which"]] * _LENGTHS[span]), span)


def _around(day: date, length: str) -> Iterator[str]:
    """The words for a stretch of time: the days of a week, or a month; a year is too long to have any."""
    if length == "day":
        yield from said_on(day)
    elif length == "week":
        monday = day - timedelta(days=day.weekday())
        yield from (_day(monday + timedelta(days=step)) for step in range(7))
    elif length == "month":
        yield _month(day)
