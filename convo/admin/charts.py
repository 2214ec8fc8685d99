"""Geometry of charts over days: x in percent of the plot, to fit any width, and y in pixels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import count, pairwise
from math import ceil
from typing import NamedTuple

HEIGHT = 160
# Up to DAILY_LABELS days, each day has a label; up to WEEKLY_LABELS, each Monday; then every other Monday.
DAILY_LABELS, WEEKLY_LABELS = 8, 45
MONDAY = 0

Link = Callable[[date, str], str]
Formatter = Callable[[float], str]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One coloured series of a chart: its name, and one value per day, None for a day without data."""

    name: str
    colour: int
    values: Sequence[float | None]
    key: str = ""


class Tick(NamedTuple):
    position: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Box:
    """A bar of a stack or, without a colour, the clickable column of one day."""

    x: str
    y: str
    width: str
    height: str
    title: str
    href: str
    colour: int | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    colour: int
    x: str
    y: str
    title: str
    href: str


@dataclass(frozen=True, kw_only=True)
class ChartOptions:
    """The settings of a chart: its title, its days, the format of its values, and the links of its marks."""

    title: str
    days: Sequence[date]
    format_value: Formatter
    link: Link
    note: str = ""
    # Formats the labels of the axis, where round numbers can be abbreviated.
    format_axis_label: Formatter | None = None
    # The scale reaches at least this value: 100 for a percentage of everything.
    scale_minimum: float = 0


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart as the template draws it, with the same numbers as rows of a table."""

    title: str
    note: str
    series: Sequence[Series]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    columns: Sequence[Box]
    # Each day's values as (text, link) for the table below the chart; a value of zero has no link.
    rows: Sequence[tuple[date, Sequence[tuple[str, str]]]]
    bars: Sequence[Box] = ()
    points: Sequence[Point] = ()
    # Lines from one day's point to the next day's.
    lines: Sequence[tuple[Point, Point]] = ()
    height: int = HEIGHT

    @property
    def is_empty(self) -> bool:
        return not (self.bars or self.points)


def bar_chart(frame: ChartOptions, all_series: Sequence[Series]) -> Chart:
    """Return a bar chart that stacks one value of each series per day."""
    stacks = [[series.values[n] or 0 for series in all_series] for n in range(len(frame.days))]
    ticks = round_ticks(max([frame.scale_minimum, *map(sum, stacks)]))
    bars = [
        bar
        for n, values in enumerate(stacks)
        for bar in _stack(frame, all_series, n, values, maximum=ticks[-1])
    ]
    return replace(_chart(frame, all_series, ticks), bars=bars)


def line_chart(frame: ChartOptions, all_series: Sequence[Series]) -> Chart:
    """Return a line chart with a point per day and series; a day without data leaves a gap in the line."""
    values = [value for series in all_series for value in series.values if value is not None]
    ticks = round_ticks(max([frame.scale_minimum, *values]))
    paths = [_path(frame, series, maximum=ticks[-1]) for series in all_series]
    return replace(
        _chart(frame, all_series, ticks),
        points=[point for path in paths for point in path if point],
        lines=[(start, end) for path in paths for start, end in pairwise(path) if start and end],
    )


def _stack(
    frame: ChartOptions, all_series: Sequence[Series], n: int, values: Sequence[float], *, maximum: float
) -> Iterator[Box]:
    slot = 100 / len(frame.days)
    width = slot * (0.5 if len(frame.days) <= DAILY_LABELS else 0.76)
    base = 0.0
    for series, value in zip(all_series, values, strict=True):
        if value:
            top, bottom = y_of(base + value, maximum), y_of(base, maximum)
            yield Box(
                colour=series.colour,
                x=percent(n * slot + (slot - width) / 2),
                y=pixels(top),
                width=percent(width),
                height=pixels(bottom - top),
                title=f"{long_day(frame.days[n])}: {series.name} {frame.format_value(value)}",
                href=frame.link(frame.days[n], series.key),
            )
        base += value


def _path(frame: ChartOptions, series: Series, *, maximum: float) -> list[Point | None]:
    """Return a point per day, or None for a day without data."""
    return [
        None
        if value is None
        else Point(
            colour=series.colour,
            x=percent(column_centre(n, len(frame.days))),
            y=pixels(y_of(value, maximum)),
            title=f"{long_day(day)}: {series.name} {frame.format_value(value)}",
            href=frame.link(day, series.key),
        )
        for n, (day, value) in enumerate(zip(frame.days, series.values, strict=True))
    ]


def _chart(frame: ChartOptions, all_series: Sequence[Series], ticks: Sequence[float]) -> Chart:
    label = frame.format_axis_label or frame.format_value
    return Chart(
        title=frame.title,
        note=frame.note,
        series=all_series,
        x_ticks=day_ticks(frame.days),
        y_ticks=[Tick(pixels(y_of(tick, ticks[-1])), label(tick)) for tick in ticks],
        columns=[_day_column(frame, all_series, n) for n in range(len(frame.days))],
        rows=[_table_row(frame, all_series, n) for n in reversed(range(len(frame.days)))],
    )


def _day_column(frame: ChartOptions, all_series: Sequence[Series], n: int) -> Box:
    slot = 100 / len(frame.days)
    labels = [
        f"{series.name} {frame.format_value(value)}" for series in all_series if (value := series.values[n])
    ]
    return Box(
        x=percent(n * slot),
        y="0",
        width=percent(slot),
        height=pixels(HEIGHT),
        title=f"{long_day(frame.days[n])}: {', '.join(labels) or 'nothing'}",
        href=frame.link(frame.days[n], ""),
    )


def _table_row(
    frame: ChartOptions, all_series: Sequence[Series], n: int
) -> tuple[date, Sequence[tuple[str, str]]]:
    day, values = frame.days[n], [(series.key, series.values[n]) for series in all_series]
    return day, [
        ("–", "") if value is None else (frame.format_value(value), frame.link(day, key) if value else "")
        for key, value in values
    ]


def round_ticks(maximum: float) -> list[float]:
    """Return round numbers from 0 to `maximum` or just beyond it, in at most four steps of 1, 2, 5, 10 …"""
    steps = (digit * 10**power for power in count() for digit in (1, 2, 5))
    step = next(step for step in steps if maximum <= 4 * step)
    return [n * step for n in range(max(ceil(maximum / step), 1) + 1)]


def day_ticks(days: Sequence[date]) -> list[Tick]:
    """Label every day of a short range, every Monday of a longer one, or else every other Monday."""
    labelled_days = list(enumerate(days))
    if len(days) > DAILY_LABELS:
        labelled_days = [(n, day) for n, day in labelled_days if day.weekday() == MONDAY]
    if len(days) > WEEKLY_LABELS:
        labelled_days = labelled_days[::2]
    return [Tick(percent(column_centre(n, len(days))), f"{day.day} {day:%b}") for n, day in labelled_days]


def column_centre(n: int, days: int) -> float:
    """Return the centre of a day's column, in percent of the plot's width."""
    return 100 * (n + 0.5) / days


def y_of(value: float, maximum: float) -> float:
    """Return the distance of a value from the top of the plot, in pixels."""
    return HEIGHT * (1 - value / maximum)


def percent(value: float) -> str:
    return f"{value:.3f}%"


def pixels(value: float) -> str:
    return f"{value:.1f}"


def long_day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def format_exact(value: float) -> str:
    return f"{value:,.0f}"


def format_short(value: float) -> str:
    """Return a count in short form: 950, 9,500, 12.3k, 4M."""
    for minimum, size, unit in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= minimum:
            return _digits(value / size) + unit
    return format_exact(value)


def format_duration(milliseconds: float) -> str:
    """Return a duration as people read it: 840 ms, 1.2 s, 130 s."""
    if not milliseconds:
        return "0"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{_digits(milliseconds / 1000)} s"


def format_percentage(value: float) -> str:
    """Return a percentage in short form: 0.4%, 12%."""
    return f"{_digits(value)}%"


def _digits(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:,.0f}"
