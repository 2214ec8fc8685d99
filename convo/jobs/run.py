"""Run work in whichever process gets its lease: one piece, or all that waits of a job for many rows."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from django.db import DatabaseError

from convo import database
from convo.jobs import ledger, registry
from convo.jobs.backlog import due_targets
from convo.jobs.lease import keep_lease
from convo.jobs.registry import Job
from convo.models import Work

logger = logging.getLogger(__name__)

# An attempt at a job for many rows takes this many of them; a hint goes on with the next ones for so long.
ROWS_PER_ATTEMPT, HINT_SECONDS = 200, 20


def run(name: str, pk: object) -> None:
    """Run this work, unless it is running, waiting or dead; a failure is recorded and not raised."""
    kind = _find_job(name)
    if kind is None:
        return
    try:
        key = registry.parse_key(str(pk))
    except ValueError:
        logger.warning("job %s was sent without a valid primary key", name)
        return
    if work := ledger.start_attempt(name, str(pk)):
        if error := _attempt(lambda: kind.run(key), [work]):
            ledger.record_failure(work, error)
        database.close_connections()


def follow_hint(name: str, pk: object) -> None:
    """Run the work that a hint names; of a job for many rows, run all that waits."""
    kind = _find_job(name)
    if kind is None or not kind.run_many:
        run(name, pk)
        return
    end = time.monotonic() + HINT_SECONDS
    processed: set[str] = set()
    # Most hints find that the one before them has taken their work along. They cost this one statement.
    while any(kind.overdue(1)) and time.monotonic() < end:
        # What is overdue still is left to the sweep, or this would never end.
        if not (targets := due_targets(kind, ROWS_PER_ATTEMPT, exclude=processed)):
            return
        processed.update(targets)
        run_many(kind, targets)


def run_many(kind: Job, targets: Sequence[str], is_over: Callable[[], bool] = lambda: False) -> None:
    """Run this job for many rows at once; rows in which it has failed before are run one at a time."""
    rows = Work.objects.filter(kind=kind.name, target__in=targets, attempts__gt=0)
    failed_before = set(rows.values_list("target", flat=True))
    fresh = [target for target in targets if target not in failed_before]
    one_at_a_time = [] if _attempt_all(kind, fresh) else fresh
    for target in [*one_at_a_time, *sorted(failed_before)]:
        if is_over():
            break
        run(kind.name, target)


def _attempt_all(kind: Job, targets: Sequence[str]) -> bool:
    """Run the job for these rows at once; return False if it failed, and one at a time shows for which."""
    assert kind.run_many  # only such jobs are passed
    attempts = ledger.start_attempts(kind.name, targets) if targets else []
    keys = [registry.parse_key(work.target) for work in attempts]
    error = _attempt(partial(kind.run_many, keys), attempts) if attempts else None
    if error:
        log_failure(f"{kind.name} for {len(attempts)} at once", error)
        ledger.cancel_attempts(attempts)
    database.close_connections()
    return error is None


def _find_job(name: str) -> Job | None:
    kind = registry.get_job(name)
    if kind is None:
        # Another version of this program sent it, and its own sweep finds it.
        logger.warning("unknown job %s: another version of Convo may have sent it", name)
    return kind


def _attempt(function: Callable[[], object], attempts: Sequence[Work]) -> Exception | None:
    """Call the function under these leases and record that the work is complete, or return its failure."""
    # Most of this work waits for a model, and no connection may be held meanwhile.
    database.close_connections()
    try:
        with keep_lease(attempts):
            function()
    except Exception as error:  # a boundary: the ledger records it, and the queue moves on
        return error
    except BaseException:
        # This process was told to end, so the attempts don't count.
        ledger.cancel_attempts(attempts)
        raise
    ledger.complete(attempts)
    return None


def log_failure(subject: str, error: Exception) -> None:
    traceback = None if isinstance(error, DatabaseError) else error
    logger.warning("%s failed: %s", subject, database.describe_failure(error), exc_info=traceback)
