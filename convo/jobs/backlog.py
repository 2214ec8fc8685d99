"""Measure how far background work is behind: what is due, since when, and what has been given up."""

from collections.abc import Container
from datetime import timedelta

from django.db import models
from django.db.models import DurationField, ExpressionWrapper, F, Q
from django.db.models.functions import Now

from convo import database
from convo.jobs import registry
from convo.jobs.registry import Job
from convo.models import Work


def due_targets(kind: Job, limit: int, *, exclude: Container[str] = ()) -> list[str]:
    """Return the targets of this kind to do now: due rows of the ledger, then overdue rows of its own table.

    Targets in `exclude` are left out.
    """
    rows = Work.objects.filter(kind=kind.name)
    batch_size = limit
    while True:
        due = [*rows.due().order_by("next_at").values_list("target", flat=True)[:batch_size]]
        overdue = [str(pk) for pk in kind.overdue(batch_size)]
        busy = set(rows.not_now().filter(target__in=overdue).values_list("target", flat=True))
        targets = [target for target in dict.fromkeys([*due, *overdue]) if target not in busy]
        fresh = [target for target in targets if target not in exclude]
        # Targets that wait or are dead stay overdue. They must not hide those behind them, so more are read.
        if fresh or max(len(due), len(overdue)) < batch_size:
            return fresh[:limit]
        batch_size *= 4


def count_waiting(limit: int) -> dict[str, int]:
    """Count the work to do now by its kind, most first; of each kind, at most `limit` is counted."""
    counts = {kind.name: len(due_targets(kind, limit)) for kind in registry.all_jobs()}
    return {name: count for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count}


def count_dead() -> int:
    """Count the work that is not tried again until a person asks for it."""
    return Work.objects.items().dead().count()


def lag_seconds() -> float:
    """Return for how many seconds, at most, the oldest due work has waited; 0 when nothing is behind."""
    waits = [_longest_wait(Work.objects.items().due())]
    if any(due_targets(kind, 1) for kind in registry.all_jobs()):
        # Overdue rows don't say since when, but it was after the last sweep that caught up.
        waits.append(_longest_wait(Work.objects.filter(kind=Work.SWEEP)))
    return max(waits)


def is_sweep_late(seconds: float) -> bool:
    """Return True if no sweep has caught up within so many seconds, and none is running."""
    sweeps = Work.objects.filter(kind=Work.SWEEP)
    recent = Q(lease_until__gt=Now()) | Q(next_at__gt=database.seconds_from_now(-seconds))
    return not sweeps.filter(recent).exists()


def _longest_wait(rows: models.QuerySet[Work]) -> float:
    ago = ExpressionWrapper(Now() - F("next_at"), output_field=DurationField())
    age = rows.annotate(ago=ago).order_by("next_at").values_list("ago", flat=True).first()
    return max(age or timedelta(), timedelta()).total_seconds()
