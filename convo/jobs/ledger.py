"""The ledger: which attempt does a piece of work, how often it has failed, and when it may be tried again.

Every write names the attempt that has the lease, so that one that comes too late changes nothing.
"""

import logging
import random
from collections.abc import Iterable, Sequence
from uuid import uuid4

from django.db import models, transaction
from django.db.models import F, Q

from convo import database
from convo.conf import conf
from convo.errors import ConvoError
from convo.jobs.hints import enqueue
from convo.models import Work

logger = logging.getLogger(__name__)

# Waits of 30 s, 3 min, 18 min and 108 min: five attempts outlast an outage of two hours.
WAIT_GROWTH = 6
MAX_WAIT_SECONDS = 6 * 3600
# A web process with a broker lets this many sweeps go by before it assumes that the workers are gone.
MISSED_SWEEPS = 4


@database.retry_conflicts
def require(kind: str, pk: object) -> None:
    """Request work although no row says that it is overdue: the ledger lists it until it is done."""
    with transaction.atomic():
        rows = Work.objects.filter(kind=kind, target=str(pk))
        Work.objects.bulk_create([Work(kind=kind, target=str(pk))], ignore_conflicts=True)
        rows.retry()
        enqueue(kind, pk)


def start_attempt(kind: str, target: str) -> Work | None:
    """Begin an attempt at this work, which counts from now on; return None if it can't begin now."""
    attempts = start_attempts(kind, [target])
    return attempts[0] if attempts else None


@database.retry_conflicts
def start_attempts(kind: str, targets: Sequence[str]) -> list[Work]:
    """Begin attempts at those of these targets that can begin now, under one holder; return them in order."""
    holder, dead = uuid4().hex, []
    with transaction.atomic():
        # In one order, so that two processes that begin the same targets can't deadlock.
        new = [Work(kind=kind, target=target) for target in sorted(targets)]
        Work.objects.bulk_create(new, ignore_conflicts=True)
        if not _take_lease(Work.objects.due().filter(kind=kind, target__in=targets), holder):
            return []
        rows = Work.objects.filter(kind=kind, target__in=targets, holder=holder)
        attempts = sorted(rows, key=lambda work: targets.index(work.target))
        for work in attempts:
            if work.attempts > conf().work_attempts:
                # The last attempt left no result behind, so its process is gone.
                reason = f"process_lost: the process ended in the last attempt. {work.error}".strip()
                _release([work], state=Work.State.DEAD, error=reason, attempts=work.attempts - 1)
                dead.append(work)
    for work in dead:
        logger.error("%s is dead: it killed its process %d times", work, work.attempts - 1)
    return [work for work in attempts if work not in dead]


def can_start_sweep(*, standby: bool) -> bool:
    """Return True if no sweep is running and, for a standby sweep, none has caught up for long."""
    return _free_sweeps(standby=standby).exists() or not Work.objects.filter(kind=Work.SWEEP).exists()


@database.retry_conflicts
def start_sweep(*, standby: bool) -> Work | None:
    """Take the lease of the sweep; a standby sweep gets it only if no other has caught up for long."""
    with transaction.atomic():
        rows = Work.objects.filter(kind=Work.SWEEP)
        if not rows.exists():
            Work.objects.bulk_create([Work(kind=Work.SWEEP, target="all")], ignore_conflicts=True)
        return rows.get() if _take_lease(_free_sweeps(standby=standby), uuid4().hex) else None


def _free_sweeps(*, standby: bool) -> models.QuerySet[Work]:
    rows = Work.objects.filter(kind=Work.SWEEP).free()
    late = database.seconds_from_now(-MISSED_SWEEPS * conf().sweep_seconds)
    return rows.filter(next_at__lt=late) if standby else rows


def renew_leases(attempts: Iterable[Work]) -> None:
    rows = Work.objects.filter(_leased_by(attempts))
    rows.update(lease_until=database.seconds_from_now(conf().work_lease_seconds))


@database.retry_conflicts
def complete(attempts: Sequence[Work]) -> None:
    Work.objects.filter(_leased_by(attempts)).delete()


@database.retry_conflicts
def record_failure(work: Work, error: Exception) -> None:
    """Record that an attempt failed: the next one waits longer, and after the last one the work is dead."""
    is_dead = work.attempts >= conf().work_attempts
    state = Work.State.DEAD if is_dead else Work.State.TODO
    next_at = database.seconds_from_now(_wait(work.attempts, error))
    _release([work], state=state, error=_describe(error), next_at=next_at)
    logger.log(
        logging.ERROR if is_dead else logging.WARNING,
        "%s failed in attempt %d of %d%s: %s",
        work,
        work.attempts,
        conf().work_attempts,
        ", and is dead" if is_dead else "",
        _describe(error),
        # Only an unexpected error is logged with its traceback.
        exc_info=None if isinstance(error, ConvoError) else error,
    )


@database.retry_conflicts
def cancel_attempts(attempts: Sequence[Work]) -> None:
    """Give up attempts that were interrupted: they don't count, and the next may begin at once."""
    _release(attempts, attempts=F("attempts") - 1)


@database.retry_conflicts
def end_sweep(work: Work, *, caught_up: bool) -> None:
    """Record that a sweep has ended, and whether it did all that could be done."""
    _release([work], attempts=0, **({"next_at": database.seconds_from_now(0)} if caught_up else {}))


def _take_lease(rows: models.QuerySet[Work], holder: str) -> int:
    lease = database.seconds_from_now(conf().work_lease_seconds)
    return rows.update(attempts=F("attempts") + 1, holder=holder, lease_until=lease)


def _release(held: Sequence[Work], **values: object) -> None:
    Work.objects.filter(_leased_by(held)).update(lease_until=None, holder="", **values)


def _leased_by(attempts: Iterable[Work]) -> Q:
    """Return the condition of the rows whose leases these attempts still have."""
    return Q(pk__in=[work.pk for work in attempts], holder__in={work.holder for work in attempts})


def _describe(error: Exception) -> str:
    """Describe a failure without anything that people wrote, which foreign exceptions may quote."""
    if isinstance(error, ConvoError):
        return f"{error.code}: {error.message}"
    return database.describe_failure(error)


def _wait(attempts: int, error: Exception) -> float:
    requested_wait = error.retry_after if isinstance(error, ConvoError) else None
    wait = conf().work_retry_seconds * float(WAIT_GROWTH) ** (attempts - 1) * random.uniform(0.5, 1.5)
    return min(max(wait, requested_wait or 0), MAX_WAIT_SECONDS)
