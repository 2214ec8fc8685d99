"""The geometry of charts over days: across in percent of the plot and down in pixels, to fit any width."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import count, pairwise
from math import ceil
from typing import Any

HEIGHT = 160
# More days than this are labelled by their Mondays, and far more by every other one.
EVERY_DAY, EVERY_MONDAY = 8, 45
MONDAY = 0

Link = Callable[[date, str], str]
Say = Callable[[float], str]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One colour of a chart: its name, and a value a day; None where there is nothing to tell."""

    name: str
    colour: int
    values: Sequence[float | None]
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Tick:
    at: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Box:
    """A bar of a stack, or, without a colour, all that stands above one day."""

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
class Line:
    """From one day's point to the next one's."""

    colour: int
    x1: str
    y1: str
    x2: str
    y2: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """The numbers of one day, as a table tells them: each with the address that its mark has."""

    day: date
    cells: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart as the template draws it, with the same numbers as rows of a table."""

    title: str
    note: str
    series: Sequence[Series]
    across: Sequence[Tick]
    down: Sequence[Tick]
    days: Sequence[Box]
    rows: Sequence[Row]
    bars: Sequence[Box] = ()
    lines: Sequence[Line] = ()
    points: Sequence[Point] = ()
    height: int = HEIGHT

    @property
    def is_empty(self) -> bool:
        return not (self.bars or self.points)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a chart is drawn into: its days, how values are told, and where a mark leads."""

    title: str
    days: Sequence[date]
    tell: Say
    link: Link
    note: str = ""
    # On the axis, where round numbers may be told in short.
    label: Say | None = None
    # The scale reaches at least so far: a share of everything is one of a hundred.
    least: float = 0


def stacked(frame: Frame, series: Sequence[Series]) -> Chart:
    """A bar a day, made of one value of each series."""
    stacks = [[one.values[n] or 0 for one in series] for n in range(len(frame.days))]
    ticks = round_ticks(max([frame.least, *map(sum, stacks)]))
    bars = [
        bar for n, values in enumerate(stacks) for bar in _stack(frame, series, n, values, most=ticks[-1])
    ]
    return _chart(frame, series, ticks, bars=bars)


def joined(frame: Frame, series: Sequence[Series]) -> Chart:
    """A point a day and series, joined to the next day's where there is one."""
    told = [value for one in series for value in one.values if value is not None]
    ticks = round_ticks(max([frame.least, *told]))
    points = [point for one in series for point in _points(frame, one, most=ticks[-1])]
    places = [[_place(frame, one, n, most=ticks[-1]) for n in range(len(frame.days))] for one in series]
    lines = [
        Line(colour=one.colour, x1=here[0], y1=here[1], x2=there[0], y2=there[1])
        for one, row in zip(series, places, strict=True)
        for here, there in pairwise(row)
        if here and there
    ]
    return _chart(frame, series, ticks, points=points, lines=lines)


def _stack(
    frame: Frame, series: Sequence[Series], n: int, values: Sequence[float], *, most: float
) -> Iterator[Box]:
    slot = 100 / len(frame.days)
    width = slot * (0.5 if len(frame.days) <= EVERY_DAY else 0.76)
    under = 0.0
    for one, value in zip(series, values, strict=True):
        if value:
            top, bottom = height_of(under + value, most), height_of(under, most)
            yield Box(
                colour=one.colour,
                x=percent(n * slot + (slot - width) / 2),
                y=pixels(top),
                width=percent(width),
                height=pixels(bottom - top),
                title=f"{long_day(frame.days[n])}: {one.name} {frame.tell(value)}",
                href=frame.link(frame.days[n], one.key),
            )
        under += value


def _points(frame: Frame, one: Series, *, most: float) -> Iterator[Point]:
    for n, (day, value) in enumerate(zip(frame.days, one.values, strict=True)):
        if value is not None:
            yield Point(
                colour=one.colour,
                x=percent(middle(n, len(frame.days))),
                y=pixels(height_of(value, most)),
                title=f"{long_day(day)}: {one.name} {frame.tell(value)}",
                href=frame.link(day, one.key),
            )


def _place(frame: Frame, one: Series, n: int, *, most: float) -> tuple[str, str] | None:
    value = one.values[n]
    if value is None:
        return None
    return percent(middle(n, len(frame.days))), pixels(height_of(value, most))


def _chart(frame: Frame, series: Sequence[Series], ticks: Sequence[float], **marks: Any) -> Chart:
    label = frame.label or frame.tell
    return Chart(
        title=frame.title,
        note=frame.note,
        series=series,
        across=day_ticks(frame.days),
        down=[Tick(at=pixels(height_of(tick, ticks[-1])), label=label(tick)) for tick in ticks],
        days=[_day(frame, series, n) for n in range(len(frame.days))],
        rows=[_row(frame, series, n) for n in reversed(range(len(frame.days)))],
        **marks,
    )


def _day(frame: Frame, series: Sequence[Series], n: int) -> Box:
    slot = 100 / len(frame.days)
    told = [f"{one.name} {frame.tell(value)}" for one in series if (value := one.values[n])]
    return Box(
        x=percent(n * slot),
        y="0",
        width=percent(slot),
        height=pixels(HEIGHT),
        title=f"{long_day(frame.days[n])}: {', '.join(told) or 'nothing'}",
        href=frame.link(frame.days[n], ""),
    )


def _row(frame: Frame, series: Sequence[Series], n: int) -> Row:
    day, values = frame.days[n], [(one.key, one.values[n]) for one in series]
    told = [
        ("–", "") if value is None else (frame.tell(value), frame.link(day, key) if value else "")
        for key, value in values
    ]
    return Row(day=day, cells=told)


def round_ticks(most: float) -> list[float]:
    """Round numbers from 0 to `most` or just beyond it, four steps of 1, 2 or 5 at most."""
    steps = (first * 10**power for power in count() for first in (1, 2, 5))
    step = next(step for step in steps if most <= 4 * step)
    return [n * step for n in range(max(ceil(most / step), 1) + 1)]


def day_ticks(days: Sequence[date]) -> list[Tick]:
    """Every day where there are few, else the Mondays, or every other one."""
    chosen = list(enumerate(days))
    if len(days) > EVERY_DAY:
        chosen = [(n, day) for n, day in chosen if day.weekday() == MONDAY]
    if len(days) > EVERY_MONDAY:
        chosen = chosen[::2]
    return [Tick(at=percent(middle(n, len(days))), label=short_day(day)) for n, day in chosen]


def middle(n: int, days: int) -> float:
    return 100 * (n + 0.5) / days


def height_of(value: float, most: float) -> float:
    """How far from the top of the plot a value lies."""
    return HEIGHT * (1 - value / most)


def percent(value: float) -> str:
    return f"{value:.3f}%"


def pixels(value: float) -> str:
    return f"{value:.1f}"


def short_day(day: date) -> str:
    return f"{day.day} {day:%b}"


def long_day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def exact(value: float) -> str:
    return f"{value:,.0f}"


def number(value: float) -> str:
    """A count in few letters: 950, 9,500, 12.3k, 4M."""
    for least, size, unit in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return _digits(value / size) + unit
    return exact(value)


def took(milliseconds: float) -> str:
    """A time as people read it: 840 ms, 1.2 s, 130 s."""
    if not milliseconds:
        return "0"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{_digits(milliseconds / 1000)} s"


def share(value: float) -> str:
    """A share of a hundred: 0.4%, 12%."""
    return f"{_digits(value)}%"


def _digits(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:,.0f}"
