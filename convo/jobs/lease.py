"""The leases of this process's attempts, renewed together by one thread for as long as there are any."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from convo import database
from convo.conf import conf
from convo.jobs import ledger
from convo.models import Work

logger = logging.getLogger(__name__)

_changed = threading.Condition()
_held: dict[str, tuple[Work, float]] = {}
_thread: threading.Thread | None = None


@contextmanager
def renewed(work: Work) -> Iterator[None]:
    """Keep this attempt's lease meanwhile, but not for ever: an attempt that hangs is given up."""
    with _changed:
        _held[work.holder] = work, time.monotonic() + conf().task_seconds
        _start()
    try:
        yield
    finally:
        with _changed:
            _held.pop(work.holder, None)
            _changed.notify()


def give_back_all() -> None:
    """Let others begin at once what this process is still doing, because it ends now."""
    with _changed:
        broken_off = [work for work, _ in _held.values()]
        _held.clear()
        _changed.notify()
    for work in broken_off:
        ledger.give_back(work)


def _start() -> None:
    """See that the thread runs; a process that was forked has lost it."""
    global _thread
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_renew, name="convo-leases", daemon=True)
        _thread.start()


def _renew() -> None:
    global _thread
    while True:
        with _changed:
            if _changed.wait_for(lambda: not _held, timeout=conf().work_lease_seconds / 3):
                _thread = None
                return
            now = time.monotonic()
            alive = {work.pk: work.holder for work, end in _held.values() if now < end}
        try:
            ledger.renew(alive)
        except Exception as error:  # a border: the lease outlasts this, and the next time it may go well
            logger.warning("leases not renewed: %s", type(error).__name__)
        finally:
            database.release()
