"""The sweep: asks the rows what is behind, and catches up. It needs no hint, no broker and no memory."""

import logging
import threading
import time

from django.db import DatabaseError

from convo import database
from convo.conf import conf
from convo.jobs import kinds, ledger
from convo.jobs.behind import behind
from convo.jobs.kinds import Batch, Kind
from convo.jobs.lease import renewed
from convo.jobs.run import run

logger = logging.getLogger(__name__)

AT_A_TIME = 100
# What is done for many rows at once goes first, for so long; then everything else has its turn.
BATCHES_SECONDS = 20
# Work makes work, though not for so many rounds: what is new by then has its hints, and the next sweep.
FEW_ROUNDS = 5


def sweep(*, spare: bool = False, stop: threading.Event | None = None) -> None:
    """Do what is overdue, unless another sweep is at it. It may run anywhere, twice at once, or late.

    A spare one leaves what takes long to the others for as long as they keep up with it.
    """
    for batch in kinds.quick():
        _done(batch)
    work = ledger.take_sweep(spare=spare)
    if work is None:
        return
    sweeping = Sweeping(stop or threading.Event())
    try:
        with renewed(work):
            sweeping.go_on()
    finally:
        ledger.swept(work, caught_up=sweeping.caught_up)


class Sweeping:
    """One sweep: round after round over all there is to do, until nothing is left or its time is over."""

    def __init__(self, stop: threading.Event) -> None:
        self.caught_up = False
        self._stop = stop
        # Half of what a task may take, so that its last piece of work can be as long as the other half.
        self._end = time.monotonic() + conf().task_seconds / 2
        self._failed = False
        self._seen: set[tuple[str, str]] = set()

    def go_on(self) -> None:
        few = 0
        while few < FEW_ROUNDS and not self._over():
            done = max([self._batches(), *map(self._items, kinds.kinds())])
            if not done:
                break
            few += done < AT_A_TIME
        self.caught_up = not self._failed and not self._over()

    def _batches(self) -> int:
        """Do what is done for many rows at once, over and over, for as long as one does many."""
        most, end = 0, time.monotonic() + BATCHES_SECONDS
        while True:
            done = max(map(self._batch, kinds.batches()), default=0)
            most = max(most, done)
            if done < AT_A_TIME or self._over() or time.monotonic() > end:
                return most

    def _over(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self._end

    def _batch(self, batch: Batch) -> int:
        if self._over():
            return 0
        done = _done(batch)
        self._failed |= done is None
        return done or 0

    def _items(self, kind: Kind) -> int:
        """Do some of what is behind of this kind; each once in a sweep, for it may stay behind."""
        try:
            found = behind(kind, AT_A_TIME, but={target for name, target in self._seen if name == kind.name})
        except Exception as error:
            _log(f"what is behind of {kind.name}", error)
            self._failed = True
            return 0
        for target in found:
            if self._over():
                break
            self._seen.add((kind.name, target))
            run(kind.name, target)
        return len(found)


def _done(batch: Batch) -> int | None:
    """How much this function did; None where it failed, which keeps no other one from its work."""
    try:
        done = batch()
    except Exception as error:  # a border: the next sweep tries again
        _log(batch.__name__, error)
        return None
    finally:
        database.release()
    if done:
        logger.info("sweep: %s did %d", batch.__name__, done)
    return done


def _log(what: str, error: Exception) -> None:
    lost = isinstance(error, DatabaseError)
    logger.warning("sweep: %s failed: %s", what, type(error).__name__, exc_info=None if lost else error)
