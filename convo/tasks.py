"""Celery's tasks: names for functions below, and nothing else. They take what any version may send."""

from typing import Any

from celery import shared_task

from convo import jobs, memory, search, turns, usage

# Imported so that what a sweep does and what a job is are registered, where each of them is written.
WORK = [memory, search, turns, usage]

# A hint that nobody took for so long has long been overtaken by the sweep.
HINT_SECONDS = 3600


@shared_task
def sweep(*_: Any, **unknown: Any) -> None:
    """Catch up with what is overdue."""
    jobs.sweep()


@shared_task
def run(name: str = "", pk: Any = "", *_: Any, **unknown: Any) -> None:
    """Do one piece of work."""
    jobs.run(name, pk)


def send(name: str, pk: str) -> None:
    """Hand a hint to the broker, without insisting."""
    run.apply_async(kwargs={"name": name, "pk": pk}, retry=False, expires=HINT_SECONDS)
