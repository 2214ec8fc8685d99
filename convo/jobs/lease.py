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
        self._entries: dict[str, tuple[Work, float]] = {}
        self._thread: threading.Thread | None = None

    def add(self, work: Work, *, until: float) -> None:
        """Renew this lease until `until`, a time of `time.monotonic()`."""
        with self._changed:
            self._entries[work.holder] = work, until
            # A forked process does not inherit the thread.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._renew, name="convo-leases", daemon=True)
                self._thread.start()

    def remove(self, work: Work) -> None:
        with self._changed:
            self._entries.pop(work.holder, None)
            self._changed.notify()

    def cancel_all(self) -> None:
        """Give up all leases so that others can do the work at once, because this process ends now."""
        with self._changed:
            unfinished_work = [work for work, _ in self._entries.values()]
            self._entries.clear()
            self._changed.notify()
        for work in unfinished_work:
            ledger.cancel_attempt(work)

    def _renew(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: not self._entries, timeout=conf().work_lease_seconds / 3):
                    self._thread = None
                    return
                now = time.monotonic()
                holders = {work.pk: work.holder for work, until in self._entries.values() if now < until}
            try:
                ledger.renew_leases(holders)
            except Exception as error:  # a boundary: the lease outlasts one failed renewal
                logger.warning("leases not renewed: %s", database.describe_failure(error))
            finally:
                database.close_connections()


class Reporter(Protocol):
    """A connection to the parent process, which renews the leases of what it is told about."""

    def attempt(self, work: Work) -> AbstractContextManager[None]: ...

    def batch(self, kind: str, targets: Sequence[str]) -> AbstractContextManager[None]: ...


_leases = Leases()
_report: Reporter | None = None


def set_reporter(report: Reporter) -> None:
    global _report
    _report = report


@contextmanager
def keep_lease(work: Work) -> Iterator[None]:
    """Renew this attempt's lease while it runs, for CONVO_TASK_SECONDS at most: an attempt may hang."""
    if _report is not None:
        with _report.attempt(work):
            yield
        return
    _leases.add(work, until=time.monotonic() + conf().task_seconds)
    try:
        yield
    finally:
        _leases.remove(work)


def report_batch(kind: str, targets: Sequence[str]) -> AbstractContextManager[None]:
    """Report that these targets are worked on together, without a lease for each."""
    return nullcontext() if _report is None else _report.batch(kind, targets)


def cancel_all() -> None:
    _leases.cancel_all()
