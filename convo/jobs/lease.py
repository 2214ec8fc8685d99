"""The leases of running attempts. One thread renews them all, and runs only while there are any."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from convo import database
from convo.conf import conf
from convo.jobs import ledger
from convo.models import Work

logger = logging.getLogger(__name__)


class Leases:
    """Leases that one thread of this process renews until they are removed or their time is over."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[str, tuple[Sequence[Work], float]] = {}
        self._thread: threading.Thread | None = None

    def add(self, attempts: Sequence[Work], *, until: float) -> None:
        """Renew the leases of these attempts of one holder until `until`, a time of `time.monotonic()`."""
        with self._changed:
            self._entries[attempts[0].holder] = attempts, until
            # A forked process does not inherit the thread.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._renew, name="convo-leases", daemon=True)
                self._thread.start()

    def remove(self, attempts: Sequence[Work]) -> None:
        with self._changed:
            self._entries.pop(attempts[0].holder, None)
            self._changed.notify()

    def cancel_all(self) -> None:
        """Give up all leases so that others can do the work at once, because this process ends now."""
        with self._changed:
            unfinished = [attempts for attempts, _ in self._entries.values()]
            self._entries.clear()
            self._changed.notify()
        for attempts in unfinished:
            ledger.cancel_attempts(attempts)

    def _renew(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: not self._entries, timeout=conf().work_lease_seconds / 3):
                    self._thread = None
                    return
                now = time.monotonic()
                held = [
                    work for attempts, until in self._entries.values() if now < until for work in attempts
                ]
            try:
                ledger.renew_leases(held)
            except Exception as error:  # a boundary: the lease outlasts one failed renewal
                logger.warning("leases not renewed: %s", database.describe_failure(error))
            finally:
                database.close_connections()


class Reporter(Protocol):
    """A connection to the parent process, which renews the leases of what it is told about."""

    def attempt(self, attempts: Sequence[Work]) -> AbstractContextManager[None]: ...

    def batch(self, name: str) -> AbstractContextManager[None]: ...


_leases = Leases()
_report: Reporter | None = None


def set_reporter(report: Reporter) -> None:
    global _report
    _report = report


@contextmanager
def keep_lease(attempts: Sequence[Work]) -> Iterator[None]:
    """Renew the leases of these attempts while they run, for CONVO_TASK_SECONDS at most: one may hang."""
    if _report is not None:
        with _report.attempt(attempts):
            yield
        return
    _leases.add(attempts, until=time.monotonic() + conf().task_seconds)
    try:
        yield
    finally:
        _leases.remove(attempts)


def report_batch(name: str) -> AbstractContextManager[None]:
    """Report that the function of this name runs, which finds its own work and has no lease."""
    return nullcontext() if _report is None else _report.batch(name)
