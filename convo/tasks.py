"""Celery tasks that only call `jobs`. They accept the arguments that any version of Convo may send.

Each worker process does the work in its own child process, whatever pool Celery was started with.
"""

from typing import Any

from celery import shared_task

from convo import jobs

# The sweep has long done the work of a hint that no worker took for this long.
HINT_SECONDS = 3600


@shared_task
def sweep(*_: Any, **ignored: Any) -> None:
    """Catch up with overdue work."""
    jobs.sweep_quickly()
    jobs.supervisor().sweep()


@shared_task
def run(name: str = "", pk: Any = "", *_: Any, **ignored: Any) -> None:
    """Run one job for the row with this primary key, or for all rows that wait for it."""
    jobs.supervisor().follow_hint(name, pk)


def send(name: str, pk: str) -> None:
    """Send a hint to the broker, without retrying."""
    run.apply_async(kwargs={"name": name, "pk": pk}, retry=False, expires=HINT_SECONDS)
