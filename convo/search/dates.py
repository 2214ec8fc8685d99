"""Turn the days that a text mentions into words: `20230507` and its month `202305`. English only, for now."""

import re
from collections.abc import Iterator
from datetime import date, timedelta

_MONTHS = [
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
]
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "few": 3}
_UNIT_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}

_MONTH = f"(?P<month>{'|'.join(f'{name}|{name[:3]}' for name in _MONTHS)})\\.?"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_DATE_PATTERNS = [
    re.compile(r"\b(?P<year>(?:19|20)\d\d)-(?P<month>[01]\d)-(?P<day>[0-3]\d)\b"),
    re.compile(rf"\b{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?\b"),
    re.compile(rf"\b{_MONTH} {_DAY}\b(?:,? {_YEAR})?"),
    re.compile(rf"\b{_MONTH},? {_YEAR}\b"),
    re.compile(rf"\b(?:in|of|during|since|last|this|next|early|late) {_MONTH}(?=\W|$)"),
]
_RELATIVE_DATE = re.compile(
    r"\b(?:(?P<phrase>yesterday|today|tonight|tomorrow|last night|the other day)"
    r"|(?P<number>\d{1,2}|a|an|one|two|three|four|five|six|few) (?P<ago_unit>day|week|month|year)s? ago"
    r"|(?P<direction>last|this|next|past) "
    rf"(?P<unit>week|weekend|month|year|{'|'.join(_WEEKDAYS)}))\b"
)
_PHRASE_OFFSETS = {"yesterday": -1, "last night": -1, "the other day": -2, "tomorrow": 1}
_DIRECTIONS = {"last": -1, "past": -1, "this": 0, "next": 1}
# These expressions state a time without naming a day.
_TIME_EXPRESSION = re.compile(
    rf"\b(?:{'|'.join(_MONTHS)}|{'|'.join(_WEEKDAYS)}|(?:19|20)\d\d"
    r"|recently|lately|soon|ago|since|for (?:\w+ )?(?:day|week|month|year)s?)\b"
)
_TIME_QUESTION = re.compile(r"\b(?:when|how long|(?:what|which) (?:day|date|month|year|time))\b")


# This word ends the days of a message that states a time.
TIME_MARKER = "when"


def index_days(text: str, sent_on: date) -> list[str]:
    lower_text = text.lower()
    date_words = dict.fromkeys([*_day_and_month_words(sent_on), *_date_words(lower_text, sent_on)])
    states_time = _RELATIVE_DATE.search(lower_text) or _TIME_EXPRESSION.search(lower_text)
    return [*date_words, TIME_MARKER] if states_time else list(date_words)


def query_days(query: str, today: date) -> list[str]:
    """Return the days and months that a query names; a month only if none of its days is named."""
    date_words = _date_words(query.lower(), today)
    days = {word for word in date_words if len(word) == 8}
    months = {word for word in date_words if len(word) == 6 and not any(day.startswith(word) for day in days)}
    return sorted(days | months)


def asks_when(query: str) -> bool:
    return bool(_TIME_QUESTION.search(query.lower()))


def _day_and_month_words(day: date) -> list[str]:
    return [f"{day:%Y%m%d}", f"{day:%Y%m}"]


def _date_words(text: str, base_date: date) -> list[str]:
    return [*_explicit_date_words(text, base_date), *_relative_date_words(text, base_date)]


def _explicit_date_words(text: str, base_date: date) -> Iterator[str]:
    for pattern in _DATE_PATTERNS:
        for match in pattern.finditer(text):
            parts = match.groupdict()
            month = _month_number(parts["month"])
            year = int(parts.get("year") or _guess_year(month, base_date))
            if day := parts.get("day"):
                try:
                    yield f"{date(year, month, int(day)):%Y%m%d}"
                except ValueError:
                    continue
            yield f"{year}{month:02}"


def _month_number(month: str) -> int:
    if month.isdecimal():
        return min(max(int(month), 1), 12)
    return next(number for number, name in enumerate(_MONTHS, 1) if name.startswith(month[:3]))


def _guess_year(month: int, base_date: date) -> int:
    """Return the year of a month without one: last year if this year's is over two months ahead."""
    return base_date.year if month <= base_date.month + 2 else base_date.year - 1


def _relative_date_words(text: str, base_date: date) -> Iterator[str]:
    for match in _RELATIVE_DATE.finditer(text):
        phrase, ago_unit, unit = match["phrase"], match["ago_unit"], match["unit"]
        if phrase:
            yield from _day_and_month_words(base_date + timedelta(days=_PHRASE_OFFSETS.get(phrase, 0)))
        elif ago_unit:
            number = match["number"]
            count = int(number) if number.isdecimal() else _NUMBERS[number]
            yield from _period_words(base_date - timedelta(days=count * _UNIT_DAYS[ago_unit]), ago_unit)
        elif unit in _WEEKDAYS:
            days_ahead = (_WEEKDAYS.index(unit) - base_date.weekday()) % 7
            offset = days_ahead - 7 if match["direction"] in {"last", "past"} else days_ahead
            yield from _day_and_month_words(base_date + timedelta(days=offset))
        else:
            period = "week" if unit == "weekend" else unit
            yield from _period_words(
                base_date + timedelta(days=_DIRECTIONS[match["direction"]] * _UNIT_DAYS[period]), period
            )


def _period_words(day: date, unit: str) -> Iterator[str]:
    """Yield the words for a period: the days of a week, or a month. A year is too long to have any."""
    if unit == "day":
        yield from _day_and_month_words(day)
    elif unit == "week":
        monday = day - timedelta(days=day.weekday())
        yield from (f"{monday + timedelta(days=offset):%Y%m%d}" for offset in range(7))
    elif unit == "month":
        yield f"{day:%Y%m}"
