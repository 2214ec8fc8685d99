"""The sweep reads from the rows what is overdue, and does it. It needs no hint, and no broker."""

import logging
import threading
import time

from convo import database
from convo.conf import conf
from convo.jobs import ledger, registry
from convo.jobs.backlog import due_targets
from convo.jobs.lease import keep_lease, report_batch
from convo.jobs.registry import BatchJob, Job
from convo.jobs.run import ROWS_PER_ATTEMPT, log_failure, run, run_many

logger = logging.getLogger(__name__)

FULL_BATCH = 100
# Work for many rows at once goes first in a round, for this long at most; then the other work has its turn.
BATCHES_SECONDS = 20
# Work makes more work. After this many rounds with little of it, hints and the next sweep do the rest.
MAX_SHORT_ROUNDS = 5


def sweep() -> None:
    """Run the quick functions, and all other overdue work unless another sweep is running."""
    sweep_quickly()
    catch_up(standby=False, stop=threading.Event())


def sweep_quickly() -> None:
    """Run the functions that are quick and can't wait; every process does so at every sweep."""
    for batch in registry.quick_batch_jobs():
        _call_batch(batch)


def catch_up(*, standby: bool, stop: threading.Event) -> None:
    """Run the rest of the overdue work, unless another sweep is running.

    A standby sweep leaves it to other processes as long as they keep up with it.
    """
    work = ledger.start_sweep(standby=standby)
    if work is None:
        return
    sweeping = Sweep(stop)
    try:
        with keep_lease([work]):
            sweeping.run()
    finally:
        ledger.end_sweep(work, caught_up=sweeping.caught_up)


class Sweep:
    """One sweep: rounds over all jobs, until nothing is left or its time is over."""

    def __init__(self, stop: threading.Event) -> None:
        self.caught_up = False
        self._stop = stop
        # A sweep takes half of a task's time, so that its last piece of work can take the other half.
        self._end = time.monotonic() + conf().task_seconds / 2
        self._failed = False
        self._processed: set[tuple[str, str]] = set()

    def run(self) -> None:
        short_rounds = 0
        while short_rounds < MAX_SHORT_ROUNDS and not self._is_over():
            single_jobs = [job for job in registry.all_jobs() if not job.run_many]
            count = max([self._run_many_at_once(), *map(self._run_singly, single_jobs)])
            if not count:
                break
            short_rounds += count < FULL_BATCH
        self.caught_up = not self._failed and not self._is_over()

    def _run_many_at_once(self) -> int:
        """Run the jobs for many rows at once, and repeat them while one of them has much to do."""
        max_count, end = 0, time.monotonic() + BATCHES_SECONDS
        while True:
            bulk_jobs = [job for job in registry.all_jobs() if job.run_many]
            count = max([0, *map(self._run_batch, registry.batch_jobs()), *map(self._run_bulk, bulk_jobs)])
            max_count = max(max_count, count)
            if count < FULL_BATCH or self._is_over() or time.monotonic() > end:
                return max_count

    def _is_over(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self._end

    def _run_batch(self, batch: BatchJob) -> int:
        if self._is_over():
            return 0
        count = _call_batch(batch)
        self._failed |= count is None
        return count or 0

    def _run_bulk(self, job: Job) -> int:
        targets = [] if self._is_over() else self._overdue_targets(job, ROWS_PER_ATTEMPT)
        self._processed.update((job.name, target) for target in targets)
        if targets:
            run_many(job, targets, self._is_over)
        return len(targets)

    def _run_singly(self, job: Job) -> int:
        targets = self._overdue_targets(job, FULL_BATCH)
        for target in targets:
            if self._is_over():
                break
            self._processed.add((job.name, target))
            run(job.name, target)
        return len(targets)

    def _overdue_targets(self, job: Job, limit: int) -> list[str]:
        """Return overdue targets of this kind, each once in a sweep: they may stay overdue."""
        processed = {target for name, target in self._processed if name == job.name}
        try:
            return due_targets(job, limit, exclude=processed)
        except Exception as error:
            log_failure(f"sweep: listing overdue {job.name}", error)
            self._failed = True
            return []


def _call_batch(batch: BatchJob) -> int | None:
    """Return how much this function did; None if it failed, which keeps no other from its work."""
    try:
        with report_batch(batch.__name__):
            count = batch()
    except Exception as error:  # a boundary: the next sweep tries again
        log_failure(f"sweep: {batch.__name__}", error)
        return None
    finally:
        database.close_connections()
    if count:
        logger.info("sweep: %s processed %d", batch.__name__, count)
    return count
