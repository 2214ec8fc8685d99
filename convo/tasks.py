"""Celery's tasks: names for functions below, and nothing else."""

from celery import shared_task

from convo import jobs, turns

# What a sweep does is registered where it is written.
SWEPT = [turns.reap]


@shared_task
def sweep() -> None:
    """Catch up with what is overdue."""
    jobs.sweep()
