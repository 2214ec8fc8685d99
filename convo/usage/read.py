"""The usage of some days: days that are over are settled once, the others counted now."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Min, QuerySet

from convo.jobs import batch_job
from convo.models import DailyUsage, Turn, UsageDay
from convo.usage.count import OwnerKey, UsageKey, count, started_between
from convo.usage.figures import Figures, UsageReport, UsageSum

Name = TypeVar("Name")
KeyedSums = Iterable[tuple[UsageKey, UsageSum]]


MAX_DAYS = 90  # days; the longest range of a request
DAYS_PER_SWEEP = 5
# Turns rarely go on for longer than this after the end of the day on which they started.
GRACE_PERIOD = timedelta(hours=1)


def of_everybody(first: date, last: date, **filters: str) -> UsageReport:
    """Return what all owners used on these days, optionally with only one `agent` or `model`."""
    return _build_usage(
        _settled_and_counted(DailyUsage.objects.filter(owner=None), Turn.objects.all(), first, last, filters),
        first,
        last,
    )


def of_owner(owner: Any, first: date, last: date, **filters: str) -> UsageReport:
    tallies, turns = DailyUsage.objects.filter(owner=owner), Turn.objects.filter(session__owner=owner)
    return _build_usage(_settled_and_counted(tallies, turns, first, last, filters), first, last)


def of_person(owner: Any, ref: str, first: date, last: date, **filters: str) -> UsageReport:
    """Return what one person of the owner used. Tallies don't tell people apart, so the turns are counted."""
    turns = Turn.objects.filter(session__owner=owner, session__person__ref=ref, **filters)
    return _build_usage(count(turns, first, last).items(), first, last)


def _settled_and_counted(
    tallies: QuerySet[DailyUsage], turns: QuerySet[Turn], first: date, last: date, filters: dict[str, str]
) -> Iterator[tuple[UsageKey, UsageSum]]:
    open_days = unsettled_days(first, last)
    settled_tallies = tallies.filter(day__gte=first, day__lte=last, **filters).exclude(day__in=open_days)
    for day, agent, model, sums in settled_tallies.values_list("day_id", "agent", "model", "sums"):
        yield UsageKey(day, agent, model), UsageSum(sums)
    for start, end in _date_ranges(open_days):
        yield from count(turns.filter(**filters), start, end).items()


def _date_ranges(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """Return the first and the last day of each range without a gap."""
    starts = [day for day in days if day - timedelta(days=1) not in days]
    ends = [day for day in days if day + timedelta(days=1) not in days]
    return zip(starts, ends, strict=True)


def _build_usage(keyed_sums: KeyedSums, first: date, last: date) -> UsageReport:
    pairs = list(keyed_sums)
    by_day = _sums_by_name((key.day, turn_sum) for key, turn_sum in pairs)
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    shares: Counter[tuple[date, str]] = Counter()
    for key, turn_sum in pairs:
        shares[key.day, key.agent] += turn_sum.numbers["turns"]
    return UsageReport(
        days={day: by_day[day].figures() for day in days},
        total=_sums_by_name((None, turn_sum) for turn_sum in by_day.values())[None].figures(),
        agents=_figures_by_name((key.agent, turn_sum) for key, turn_sum in pairs),
        models=_figures_by_name((key.model, turn_sum) for key, turn_sum in pairs),
        shares=shares,
    )


def _sums_by_name(named_sums: Iterable[tuple[Name, UsageSum]]) -> defaultdict[Name, UsageSum]:
    sums: defaultdict[Name, UsageSum] = defaultdict(UsageSum)
    for name, turn_sum in named_sums:
        sums[name].add(turn_sum)
    return sums


def _figures_by_name(named_sums: Iterable[tuple[str, UsageSum]]) -> dict[str, Figures]:
    """Return the figures by name, the name with the most turns first."""
    figures = {name: turn_sum.figures() for name, turn_sum in _sums_by_name(named_sums).items()}
    return dict(sorted(figures.items(), key=lambda entry: (-entry[1].turns, entry[0])))


def today() -> date:
    return datetime.now(UTC).date()


@batch_job
def settle() -> int:
    """Settle some of the days that are over, the latest first, and return how many."""
    last_day = (datetime.now(UTC) - GRACE_PERIOD).date() - timedelta(days=1)
    # With this condition both databases answer from the index.
    first_start = Turn.objects.filter(started_at__isnull=False).aggregate(first=Min("started_at"))["first"]
    if first_start is None:
        return 0
    # Days before the very first turn have nothing to count, so they needn't be settled.
    first_day = max(first_start.astimezone(UTC).date(), last_day - timedelta(days=MAX_DAYS))
    return sum(map(_settle, unsettled_days(first_day, last_day)[::-1][:DAYS_PER_SWEEP]))


def unsettled_days(first: date, last: date) -> list[date]:
    """Return the days of this range that are not settled, the oldest first."""
    settled_days = set(UsageDay.objects.filter(day__range=(first, last)).values_list("day", flat=True))
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    return [day for day in days if day not in settled_days]


def _settle(day: date) -> bool:
    """Settle this day and return True, unless a turn of it is unfinished or another process was quicker."""
    if started_between(Turn.objects.unfinished(), day, day).exists():
        return False
    sums: defaultdict[tuple[OwnerKey | None, str, str], UsageSum] = defaultdict(UsageSum)
    for key, turn_sum in count(Turn.objects.all(), day, day, by_owner=True).items():
        sums[key.owner, key.agent, key.model].add(turn_sum)
        # A tally without an owner adds up all owners.
        sums[None, key.agent, key.model].add(turn_sum)
    rows = [
        DailyUsage(day_id=day, owner_id=owner, agent=agent, model=model, sums=turn_sum.to_json())
        for (owner, agent, model), turn_sum in sums.items()
    ]
    try:
        with transaction.atomic():
            UsageDay.objects.create(day=day)
            DailyUsage.objects.bulk_create(rows)
    except IntegrityError:
        return False
    return True
