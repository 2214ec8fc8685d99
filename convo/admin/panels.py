"""The charts and tables of the dashboard, and the links from their numbers to the turns behind them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from django.urls import reverse
from django.utils.http import urlencode

from convo.admin import charts
from convo.admin.charts import Chart, ChartOptions, Link, Series
from convo.models import Turn
from convo.usage import Figures, Percentiles, UsageReport, today

RANGES = (7, 30, 90)
DEFAULT_DAYS = 30
# This many series get a colour of their own; the others are added up in one more series.
COLOUR_COUNT = 4
OTHERS = "others"
FAILED_FILTER = {"status__in": "failed,partial"}
NO_FILTERS: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The selection that the page shows: some days up to today, of all turns or of one agent or model."""

    days: int
    last: date
    filters: Mapping[str, str]

    @classmethod
    def from_query_params(cls, query_params: Mapping[str, str]) -> "Selection":
        """Read the selection from query parameters; an unknown number of days counts as the usual one."""
        days = next((days for days in RANGES if str(days) == query_params.get("days")), DEFAULT_DAYS)
        filters = {name: query_params[name] for name in ("agent", "model") if query_params.get(name)}
        return cls(days=days, last=today(), filters=filters)

    @property
    def first(self) -> date:
        return self.last - timedelta(days=self.days - 1)

    @property
    def ranges(self) -> list[tuple[int, str]]:
        return [(days, self.page_url(days=days)) for days in RANGES]

    @property
    def active_filters(self) -> list[tuple[str, str, str]]:
        """The active filters: each filter's name, its value, and the address of the page without it."""
        return [(name, value, self.page_url(**{name: None})) for name, value in self.filters.items()]

    def page_url(self, **change: str | int | None) -> str:
        """Return the address of this page with some parameters changed; None removes a parameter."""
        params = {"days": self.days, **self.filters, **change}
        return "?" + urlencode({name: value for name, value in params.items() if value is not None})

    def turns_url(self, day: date | None, extra_filters: Mapping[str, str] = NO_FILTERS) -> str:
        """Return the address of the list of turns behind a number: those of one day, or of all days."""
        first, last = day or self.first, day or self.last
        params = {
            "started_at__gte": f"{first}T00:00:00Z",
            "started_at__lt": f"{last + timedelta(days=1)}T00:00:00Z",
            "finished_at__isnull": "0",
            **self.filters,
            **extra_filters,
        }
        return f"{reverse('admin:convo_turn_changelist')}?{urlencode(params)}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a table: its name links to the page narrowed to it, its number of turns to these turns."""

    name: str
    cells: Sequence[tuple[str, str]]
    narrowed_url: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    name_heading: str
    headings: Sequence[str]
    entries: Sequence[Entry]


def build_charts(report: UsageReport, selection: Selection) -> list[Chart]:
    return [
        _turns_chart(report, selection),
        _tokens_chart(report, selection),
        _duration_chart("Time to first token", "first_token", report, selection, first_token_at__isnull="0"),
        _duration_chart(
            "Time to the whole reply", "duration", report, selection, status__exact=Turn.Status.COMPLETE
        ),
        _failures_chart(report, selection),
        _cache_chart(report, selection),
    ]


def build_tables(report: UsageReport, selection: Selection) -> list[Table]:
    return [
        _table_by("agent", report.agents, selection),
        _table_by("model", report.models, selection),
        _table_by_code(report.total, selection),
    ]


def _turns_chart(report: UsageReport, selection: Selection) -> Chart:
    days, agents = list(report.days), list(report.agents)

    def turns_of(names: Sequence[str]) -> list[float | None]:
        return [sum(report.shares.get((day, name), 0) for name in names) for day in days]

    frame = ChartOptions(
        title="Turns a day, by agent",
        days=days,
        format_value=charts.format_exact,
        format_axis_label=charts.format_short,
        link=_link_by_name(selection, "agent", agents),
    )
    return charts.bar_chart(frame, _series_by_name(agents, turns_of))


def _tokens_chart(report: UsageReport, selection: Selection) -> Chart:
    days = report.days.values()
    uncached_tokens = [figures.input_tokens - figures.cached_tokens for figures in days]
    series = [
        Series(name="read, cached", colour=4, values=[figures.cached_tokens for figures in days]),
        Series(name="read, not cached", colour=2, values=uncached_tokens),
        Series(name="written", colour=1, values=[figures.output_tokens for figures in days]),
    ]
    frame = ChartOptions(
        title="Tokens a day",
        note="As counted by the model server. Cached tokens are those that it had read before. "
        "Background work is not included.",
        days=list(report.days),
        format_value=charts.format_exact,
        format_axis_label=charts.format_short,
        link=lambda day, key: selection.turns_url(day),
    )
    return charts.bar_chart(frame, series)


def _duration_chart(
    title: str, name: str, report: UsageReport, selection: Selection, **filters: str
) -> Chart:
    spreads = [getattr(figures, name) for figures in report.days.values()]
    series = [
        Series(name="95 in 100 within", colour=3, values=[spread.p95 for spread in spreads]),
        Series(name="half within", colour=1, values=[spread.p50 for spread in spreads]),
    ]
    frame = ChartOptions(
        title=title,
        note="From the start of the turn, without the wait in the queue; rounded to two digits.",
        days=list(report.days),
        format_value=charts.format_duration,
        link=lambda day, key: selection.turns_url(day, filters),
    )
    return charts.line_chart(frame, series)


def _failures_chart(report: UsageReport, selection: Selection) -> Chart:
    codes = list(report.total.errors)

    def percentages_of(names: Sequence[str]) -> list[float | None]:
        return [
            100 * sum(figures.errors.get(code, 0) for code in names) / max(figures.turns, 1)
            for figures in report.days.values()
        ]

    frame = ChartOptions(
        title="Failed turns, by code",
        note="Of 100 turns that ended. Turns that were cancelled or reached a limit have not failed.",
        days=list(report.days),
        format_value=charts.format_percentage,
        link=_link_by_name(selection, "error__code", codes, **FAILED_FILTER),
    )
    return charts.bar_chart(frame, _series_by_name(codes, percentages_of))


def _cache_chart(report: UsageReport, selection: Selection) -> Chart:
    values = [
        100 * figures.cache_hits / figures.cache_reads if figures.cache_reads else None
        for figures in report.days.values()
    ]
    frame = ChartOptions(
        title="Transcript in cache",
        note="Of 100 turns that looked for the end of their transcript in the cache, this many found it; "
        "the others read it from the database.",
        days=list(report.days),
        format_value=charts.format_percentage,
        link=lambda day, key: selection.turns_url(day, {"cache_hit__isnull": "0"}),
        scale_minimum=100,
    )
    return charts.line_chart(frame, [Series(name="in cache", colour=2, values=values)])


def _series_by_name(
    names: Sequence[str], values_of: Callable[[Sequence[str]], Sequence[float | None]]
) -> list[Series]:
    """Return a series for each of the first names, and one for all others together."""
    coloured_names, other_names = names[:COLOUR_COUNT], names[COLOUR_COUNT:]
    series = [
        Series(name=name or "none", key=name, colour=colour, values=values_of([name]))
        for colour, name in enumerate(coloured_names, 1)
    ]
    if other_names:
        series.append(Series(name=OTHERS, key=OTHERS, colour=0, values=values_of(other_names)))
    return series


def _link_by_name(selection: Selection, field: str, names: Sequence[str], **filters: str) -> Link:
    """Return the link function of coloured series: to the turns of one name, of all others, or of the day."""
    other_names = ",".join(names[COLOUR_COUNT:])

    def link(day: date, key: str) -> str:
        if key in names[:COLOUR_COUNT]:
            return selection.turns_url(day, {**filters, field: key})
        name_filter = {f"{field}__in": other_names} if key == OTHERS else {}
        return selection.turns_url(day, {**filters, **name_filter})

    return link


def _table_by(field: str, figures_by_name: Mapping[str, Figures], selection: Selection) -> Table:
    entries = [
        Entry(
            name=name or "none",
            narrowed_url=selection.page_url(**{field: name}) if name else "",
            cells=[
                # The changelist ignores a filter with an empty value, so turns without a name need `__in`.
                (
                    charts.format_exact(figures.turns),
                    selection.turns_url(None, {field if name else f"{field}__in": name}),
                ),
                (charts.format_short(figures.input_tokens), ""),
                (charts.format_short(figures.output_tokens), ""),
                (_format_spread(figures.first_token), ""),
                (_format_spread(figures.duration), ""),
                (format_ratio(figures.failed, figures.turns), ""),
            ],
        )
        for name, figures in figures_by_name.items()
    ]
    headings = ("turns", "tokens read", "written", "first token", "whole reply", "failed")
    return Table(title=f"By {field}", name_heading=field, headings=headings, entries=entries)


def _table_by_code(total: Figures, selection: Selection) -> Table:
    entries = [
        Entry(
            name=code,
            cells=[
                (
                    charts.format_exact(turns),
                    selection.turns_url(None, {**FAILED_FILTER, "error__code": code}),
                ),
                (format_ratio(turns, total.turns), ""),
            ],
        )
        for code, turns in total.errors.items()
    ]
    return Table(title="By error", name_heading="code", headings=("turns", "of all"), entries=entries)


def _format_spread(spread: Percentiles) -> str:
    return f"{format_optional_duration(spread.p50)} · {format_optional_duration(spread.p95)}"


def format_optional_duration(milliseconds: int | None) -> str:
    return "–" if milliseconds is None else charts.format_duration(milliseconds)


def format_ratio(part: int, total: int) -> str:
    return charts.format_percentage(100 * part / total) if total else "–"
