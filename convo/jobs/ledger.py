"""The ledger: who does which piece of work, how often it failed, and when it may be tried again.

Every write names the attempt that has the lease, so that one that came too late changes nothing.
"""

import logging
import random
from uuid import uuid4

from django.db import models, transaction
from django.db.models import F

from convo import database
from convo.conf import conf
from convo.errors import ConvoError
from convo.jobs.hints import later
from convo.models import Work

logger = logging.getLogger(__name__)

# Waits of 30 s, 3 min, 18 min and 108 min: five attempts outlast an outage of two hours.
GROWTH = 6
LONGEST_WAIT_SECONDS = 6 * 3600
# Web processes with a broker let this many sweeps go by before they take the workers for gone.
MISSED_SWEEPS = 4


@database.retried
def want(kind: str, pk: object) -> None:
    """Have this done, although the rows don't say that it is behind: the ledger does, until it is done."""
    with transaction.atomic():
        this = Work.objects.filter(kind=kind, target=str(pk))
        Work.objects.bulk_create([Work(kind=kind, target=str(pk))], ignore_conflicts=True)
        this.retry()
        later(kind, pk)


@database.retried
def take(kind: str, target: str) -> Work | None:
    """Begin an attempt at this work, counted before it starts; None where it is not to begin now."""
    with transaction.atomic():
        Work.objects.bulk_create([Work(kind=kind, target=target)], ignore_conflicts=True)
        this = Work.objects.filter(kind=kind, target=target)
        if not _lease(this.due()):
            return None
        work = this.get()
        if work.attempts <= conf().work_attempts:
            return work
        # No attempt said how it went: whatever process began one is gone.
        why = f"process_lost: the process ended in the last attempt. {work.error}".strip()
        _end(work, state=Work.State.DEAD, error=why, attempts=work.attempts - 1)
    logger.error("%s %s is dead: it ended its process %d times", kind, target, work.attempts - 1)
    return None


@database.retried
def take_sweep(*, spare: bool) -> Work | None:
    """The sweeps' row, for one of them; a spare one gets it only when everything has waited for long."""
    with transaction.atomic():
        this = Work.objects.filter(kind=Work.SWEEP)
        if not this.exists():
            Work.objects.bulk_create([Work(kind=Work.SWEEP, target="all")], ignore_conflicts=True)
        late = {"next_at__lt": database.in_seconds(-MISSED_SWEEPS * conf().sweep_seconds)} if spare else {}
        return this.get() if _lease(this.free().filter(**late)) else None


def renew(held: dict[int, str]) -> None:
    """Keep the leases of these attempts, by the row of each."""
    mine = Work.objects.filter(pk__in=held.keys(), holder__in=held.values())
    mine.update(lease_until=database.in_seconds(conf().work_lease_seconds))


@database.retried
def done(work: Work) -> None:
    """The work is done, and so is its row."""
    Work.objects.filter(pk=work.pk, holder=work.holder).delete()


@database.retried
def failed(work: Work, error: Exception) -> None:
    """The attempt failed: wait longer than before the last one, or, after the last, for a person."""
    dead = work.attempts >= conf().work_attempts
    state = Work.State.DEAD if dead else Work.State.TODO
    _end(work, state=state, error=_told(error), next_at=database.in_seconds(_wait(work.attempts, error)))
    logger.log(
        logging.ERROR if dead else logging.WARNING,
        "%s failed in attempt %d of %d%s: %s",
        work,
        work.attempts,
        conf().work_attempts,
        ", and is dead" if dead else "",
        _told(error),
        # What nobody foresaw is told with the place where it happened.
        exc_info=None if isinstance(error, ConvoError) else error,
    )


@database.retried
def give_back(work: Work) -> None:
    """The attempt is broken off from outside and doesn't count; the next may begin at once."""
    _end(work, attempts=work.attempts - 1)


@database.retried
def swept(work: Work, *, caught_up: bool) -> None:
    """The sweep is over, and has left nothing undone that can be done now, or has."""
    _end(work, attempts=0, **({"next_at": database.in_seconds(0)} if caught_up else {}))


def _lease(rows: models.QuerySet[Work]) -> int:
    lease = database.in_seconds(conf().work_lease_seconds)
    return rows.update(attempts=F("attempts") + 1, holder=uuid4().hex, lease_until=lease)


def _end(work: Work, **values: object) -> None:
    Work.objects.filter(pk=work.pk, holder=work.holder).update(lease_until=None, holder="", **values)


def _told(error: Exception) -> str:
    """The failure without what people have written, which the messages of foreign errors may quote."""
    return f"{error.code}: {error.message}" if isinstance(error, ConvoError) else type(error).__name__


def _wait(attempts: int, error: Exception) -> float:
    asked = error.retry_after if isinstance(error, ConvoError) else None
    wait = conf().work_retry_seconds * float(GROWTH) ** (attempts - 1) * random.uniform(0.5, 1.5)
    return min(max(wait, asked or 0), LONGEST_WAIT_SECONDS)
