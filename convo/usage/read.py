"""The usage of some days: what was settled of them, and the rest counted now."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from django.db.models import QuerySet

from convo.models import Tally, Turn
from convo.usage.count import Slice, count
from convo.usage.settle import unsettled
from convo.usage.values import Figures, Sum, Usage

Added = Iterable[tuple[Slice, Sum]]


def of_everybody(first: date, last: date, **only: str) -> Usage:
    """What all people used on these days, with one `agent` or `model` alone where it is given."""
    return _usage(
        _added(Tally.objects.filter(owner=None), Turn.objects.all(), first, last, only), first, last
    )


def of_owner(owner: Any, first: date, last: date, **only: str) -> Usage:
    """What this owner's sessions used."""
    tallies, turns = Tally.objects.filter(owner=owner), Turn.objects.filter(session__owner=owner)
    return _usage(_added(tallies, turns, first, last, only), first, last)


def of_person(owner: Any, ref: str, first: date, last: date, **only: str) -> Usage:
    """What one of the owner's people used; no tally tells people apart, so this is always counted."""
    turns = Turn.objects.filter(session__owner=owner, session__person__ref=ref, **only)
    return _usage(count(turns, first, last).items(), first, last)


def _added(
    tallies: QuerySet[Tally], turns: QuerySet[Turn], first: date, last: date, only: dict[str, str]
) -> Iterator[tuple[Slice, Sum]]:
    still_open = unsettled(first, last)
    settled = tallies.filter(day__gte=first, day__lte=last, **only).exclude(day__in=still_open)
    for day, agent, model, sums in settled.values_list("day_id", "agent", "model", "sums"):
        yield Slice(day, agent, model), Sum(sums)
    for since, until in _stretches(still_open):
        yield from count(turns.filter(**only), since, until).items()


def _stretches(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """The first and the last of each row of days without a gap."""
    begins = [day for day in days if day - timedelta(days=1) not in days]
    ends = [day for day in days if day + timedelta(days=1) not in days]
    return zip(begins, ends, strict=True)


def _usage(added: Added, first: date, last: date) -> Usage:
    every = list(added)
    by_day = _sums((of.day, counted) for of, counted in every)
    days = [first + timedelta(days=after) for after in range((last - first).days + 1)]
    shares: Counter[tuple[date, str]] = Counter()
    for of, counted in every:
        shares[of.day, of.agent] += counted.numbers["turns"]
    return Usage(
        days={day: by_day[day].figures() for day in days},
        total=_sums((None, counted) for counted in by_day.values())[None].figures(),
        agents=_figures((of.agent, counted) for of, counted in every),
        models=_figures((of.model, counted) for of, counted in every),
        shares=shares,
    )


def _sums(added: Iterable[tuple[Any, Sum]]) -> defaultdict[Any, Sum]:
    sums: defaultdict[Any, Sum] = defaultdict(Sum)
    for name, counted in added:
        sums[name].add(counted)
    return sums


def _figures(added: Iterable[tuple[str, Sum]]) -> dict[str, Figures]:
    """The figures under each name, the one with the most turns first."""
    found = {name: counted.figures() for name, counted in _sums(added).items()}
    return dict(sorted(found.items(), key=lambda entry: (-entry[1].turns, entry[0])))
