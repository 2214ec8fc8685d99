"""Which charts and tables the dashboard has, of which numbers, and which turns lie behind each mark."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode

from convo.admin import charts
from convo.admin.charts import Chart, Frame, Link, Series
from convo.models import Turn
from convo.usage import Figures, Spread, Usage, today

RANGES = (7, 30, 90)
USUAL = 30
# As many series have a colour of their own; the rest is one more.
COLOURS = 4
OTHERS = "others"
FAILED = {"status__in": "failed,partial"}
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the page is to show: some days up to today, of everybody or of one agent or model."""

    days: int
    last: date
    only: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Wanted":
        days = next((days for days in RANGES if str(days) == given.get("days")), USUAL)
        only = {name: given[name] for name in ("agent", "model") if given.get(name)}
        return cls(days=days, last=today(), only=only)

    @property
    def first(self) -> date:
        return self.last - timedelta(days=self.days - 1)

    @property
    def ranges(self) -> list[tuple[int, str]]:
        return [(days, self.page(days=days)) for days in RANGES]

    @property
    def limits(self) -> list[tuple[str, str, str]]:
        """What narrows the page, and where it is without."""
        return [(name, value, self.page(**{name: None})) for name, value in self.only.items()]

    def page(self, **change: Any) -> str:
        """This page, but for what changes."""
        asked = {"days": self.days, **self.only, **change}
        return "?" + urlencode({name: value for name, value in asked.items() if value is not None})

    def turns(self, day: date | None, only: Mapping[str, str] = NOTHING) -> str:
        """The list of the turns behind a number: those of a day, or of all days."""
        first, last = day or self.first, day or self.last
        asked = {
            "started_at__gte": f"{first}T00:00:00Z",
            "started_at__lt": f"{last + timedelta(days=1)}T00:00:00Z",
            "finished_at__isnull": "0",
            **self.only,
            **only,
        }
        return f"{reverse('admin:convo_turn_changelist')}?{urlencode(asked)}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a table: its name leads to the page of it alone, its numbers to the turns."""

    name: str
    cells: Sequence[tuple[str, str]]
    narrowed: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    head: str
    heads: Sequence[str]
    entries: Sequence[Entry]


def drawn(found: Usage, wanted: Wanted) -> list[Chart]:
    return [
        _turns(found, wanted),
        _tokens(found, wanted),
        _times("Time to first token", "first_token", found, wanted, first_token_at__isnull="0"),
        _times("Time to the whole reply", "duration", found, wanted, status__exact=Turn.Status.COMPLETE),
        _failures(found, wanted),
        _at_hand(found, wanted),
    ]


def tables(found: Usage, wanted: Wanted) -> list[Table]:
    return [
        _by("agent", found.agents, wanted),
        _by("model", found.models, wanted),
        _by_code(found.total, wanted),
    ]


def _turns(found: Usage, wanted: Wanted) -> Chart:
    days, agents = list(found.days), list(found.agents)

    def values(names: Sequence[str]) -> list[float | None]:
        return [sum(found.shares.get((day, name), 0) for name in names) for day in days]

    frame = Frame(
        title="Turns a day, by agent",
        days=days,
        tell=charts.exact,
        label=charts.number,
        link=_linked(wanted, "agent", agents),
    )
    return charts.stacked(frame, _coloured(agents, values))


def _tokens(found: Usage, wanted: Wanted) -> Chart:
    days = found.days.values()
    read = [each.input_tokens - each.cached_tokens for each in days]
    series = [
        Series(name="read, cached", colour=4, values=[each.cached_tokens for each in days]),
        Series(name="read anew", colour=2, values=read),
        Series(name="written", colour=1, values=[each.output_tokens for each in days]),
    ]
    frame = Frame(
        title="Tokens a day",
        note="As the model server counts them. Cached is what it had read before. "
        "Background work is not in it.",
        days=list(found.days),
        tell=charts.exact,
        label=charts.number,
        link=lambda day, key: wanted.turns(day),
    )
    return charts.stacked(frame, series)


def _times(title: str, name: str, found: Usage, wanted: Wanted, **only: str) -> Chart:
    spreads = [getattr(figures, name) for figures in found.days.values()]
    series = [
        Series(name="95 in 100 within", colour=3, values=[spread.p95 for spread in spreads]),
        Series(name="half within", colour=1, values=[spread.p50 for spread in spreads]),
    ]
    frame = Frame(
        title=title,
        note="From the turn’s beginning, without a wait in the queue; to two digits.",
        days=list(found.days),
        tell=charts.took,
        link=lambda day, key: wanted.turns(day, only),
    )
    return charts.joined(frame, series)


def _failures(found: Usage, wanted: Wanted) -> Chart:
    codes = list(found.total.errors)

    def values(names: Sequence[str]) -> list[float | None]:
        return [
            100 * sum(figures.errors.get(code, 0) for code in names) / max(figures.turns, 1)
            for figures in found.days.values()
        ]

    frame = Frame(
        title="Failed turns, by code",
        note="Of 100 turns that ended. Who cancels, or reaches a limit, has not failed.",
        days=list(found.days),
        tell=charts.share,
        link=_linked(wanted, "error__code", codes, **FAILED),
    )
    return charts.stacked(frame, _coloured(codes, values))


def _at_hand(found: Usage, wanted: Wanted) -> Chart:
    values = [100 * each.hot / each.looked if each.looked else None for each in found.days.values()]
    frame = Frame(
        title="Transcript at hand",
        note="Of 100 turns that looked for the end of their transcript in the cache, as many found it; "
        "the others read it from the database.",
        days=list(found.days),
        tell=charts.share,
        link=lambda day, key: wanted.turns(day, {"hot__isnull": "0"}),
        least=100,
    )
    return charts.joined(frame, [Series(name="at hand", colour=2, values=values)])


def _coloured(
    names: Sequence[str], values: Callable[[Sequence[str]], Sequence[float | None]]
) -> list[Series]:
    """A series for each of the first names, and one for all others."""
    first, rest = names[:COLOURS], names[COLOURS:]
    series = [
        Series(name=name or "none", key=name, colour=colour, values=values([name]))
        for colour, name in enumerate(first, 1)
    ]
    return [*series, Series(name=OTHERS, key=OTHERS, colour=0, values=values(rest))] if rest else series


def _linked(wanted: Wanted, field: str, names: Sequence[str], **only: str) -> Link:
    """Where the marks of coloured series lead: to the turns of one name, of the others, or of the day."""
    rest = ",".join(names[COLOURS:])

    def link(day: date, key: str) -> str:
        if key in names[:COLOURS]:
            return wanted.turns(day, {**only, field: key})
        return wanted.turns(day, {**only, f"{field}__in": rest} if key == OTHERS else only)

    return link


def _by(field: str, found: Mapping[str, Figures], wanted: Wanted) -> Table:
    entries = [
        Entry(
            name=name or "none",
            narrowed=wanted.page(**{field: name}) if name else "",
            cells=[
                # A filter of the list takes no name for no filter.
                (charts.exact(each.turns), wanted.turns(None, {field if name else f"{field}__in": name})),
                (charts.number(each.input_tokens), ""),
                (charts.number(each.output_tokens), ""),
                (_spread(each.first_token), ""),
                (_spread(each.duration), ""),
                (of_hundred(each.failed, each.turns), ""),
            ],
        )
        for name, each in found.items()
    ]
    heads = ("turns", "tokens read", "written", "first token", "whole reply", "failed")
    return Table(title=f"By {field}", head=field, heads=heads, entries=entries)


def _by_code(total: Figures, wanted: Wanted) -> Table:
    entries = [
        Entry(
            name=code,
            cells=[
                (charts.exact(turns), wanted.turns(None, {**FAILED, "error__code": code})),
                (of_hundred(turns, total.turns), ""),
            ],
        )
        for code, turns in total.errors.items()
    ]
    return Table(title="By error", head="code", heads=("turns", "of all"), entries=entries)


def _spread(spread: Spread) -> str:
    return f"{time_of(spread.p50)} · {time_of(spread.p95)}"


def time_of(milliseconds: int | None) -> str:
    return "–" if milliseconds is None else charts.took(milliseconds)


def of_hundred(part: int, whole: int) -> str:
    return charts.share(100 * part / whole) if whole else "–"
