"""How far the background is behind: what is to be done now, since when, and what is given up."""

from collections.abc import Container
from datetime import timedelta

from django.db import models
from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now

from convo.jobs import kinds
from convo.jobs.kinds import Kind
from convo.models import Work


def behind(kind: Kind, limit: int, *, but: Container[str] = ()) -> list[str]:
    """The targets of this kind to do now: those whose wait is over, then those that the rows list."""
    rows = Work.objects.filter(kind=kind.name)
    wanted = limit
    while True:
        due = [*rows.due().order_by("next_at").values_list("target", flat=True)[:wanted]]
        overdue = [str(pk) for pk in kind.overdue(wanted)]
        busy = set(rows.not_now().filter(target__in=overdue).values_list("target", flat=True))
        found = [target for target in dict.fromkeys([*due, *overdue]) if target not in busy]
        fresh = [target for target in found if target not in but]
        # What waits or is dead stays overdue, and must not hide what stands behind it.
        if fresh or max(len(due), len(overdue)) < wanted:
            return fresh[:limit]
        wanted *= 4


def dead() -> int:
    """How much work was given up, until a person has looked at it and retries it."""
    return Work.objects.items().dead().count()


def lag() -> float:
    """For how many seconds, at most, the oldest work that could be done has waited; 0 when none is behind."""
    waits = [_wait(Work.objects.items().due())]
    if any(behind(kind, 1) for kind in kinds.kinds()):
        # The rows don't say since when, but it was after the last time that nothing was behind.
        waits.append(_wait(Work.objects.filter(kind=Work.SWEEP)))
    return max(waits)


def _wait(rows: models.QuerySet[Work]) -> float:
    ago = ExpressionWrapper(Now() - F("next_at"), output_field=DurationField())
    found = rows.annotate(ago=ago).order_by("next_at").values_list("ago", flat=True).first()
    return max(found or timedelta(), timedelta()).total_seconds()
