"""Days that are over are counted once and for all, so that nobody who looks back counts a million turns.

What is deleted later stays counted. A day that isn't settled yet is counted as often as it is looked at:
slower, and no less right.
"""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Min

from convo.jobs import swept
from convo.models import TalliedDay, Tally, Turn
from convo.usage.count import begun, count
from convo.usage.values import Sum

LONGEST = 90  # days that can be looked back
AT_A_TIME = 5
# A turn may end so long after the day on which it began, and is a rare one then.
PATIENCE = timedelta(hours=1)


def today() -> date:
    return datetime.now(UTC).date()


@swept
def settle() -> int:
    """Settle some of the days that are over, the latest first; how many those were."""
    over = (datetime.now(UTC) - PATIENCE).date() - timedelta(days=1)
    due = unsettled(over - timedelta(days=LONGEST), over)
    if not due:
        return 0
    first = Turn.objects.aggregate(first=Min("started_at"))["first"]
    # Before the first turn of all there is nothing to count, and may be much to settle.
    empty = [day for day in due if first is None or day < first.astimezone(UTC).date()]
    TalliedDay.objects.bulk_create([TalliedDay(day=day) for day in empty], ignore_conflicts=True)
    return len(empty) + sum(map(_settle, due[len(empty) :][::-1][:AT_A_TIME]))


def unsettled(first: date, last: date) -> list[date]:
    """Those of these days that are not settled, the oldest first."""
    settled = set(TalliedDay.objects.filter(day__range=(first, last)).values_list("day", flat=True))
    days = [first + timedelta(days=after) for after in range((last - first).days + 1)]
    return [day for day in days if day not in settled]


def _settle(day: date) -> bool:
    """Settle this day, unless one of its turns goes on, or another process was quicker."""
    if begun(Turn.objects.unfinished(), day, day).exists():
        return False
    owners: defaultdict[tuple[Any, str, str], Sum] = defaultdict(Sum)
    for of, counted in count(Turn.objects.all(), day, day, by_owner=True).items():
        owners[of.owner, of.agent, of.model].add(counted)
        # Of no owner: of all of them together.
        owners[None, of.agent, of.model].add(counted)
    rows = [
        Tally(day_id=day, owner_id=owner, agent=agent, model=model, sums=counted.to_keep())
        for (owner, agent, model), counted in owners.items()
    ]
    try:
        with transaction.atomic():
            TalliedDay.objects.create(day=day)
            Tally.objects.bulk_create(rows)
    except IntegrityError:
        return False
    return True
