"""The worker of a web process: it sweeps, and without a broker it also does the work that hints name."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from django.db import DatabaseError

from convo import database
from convo.conf import conf
from convo.jobs import hints
from convo.jobs.lease import cancel_all
from convo.jobs.run import follow_hint
from convo.jobs.sweep import catch_up, sweep_quickly

logger = logging.getLogger(__name__)

STOP_SECONDS = 3


class Executor(Protocol):
    """The process that does the work: this one, or a child of it."""

    def follow_hint(self, kind: str, target: object) -> None: ...

    def sweep(self, *, standby: bool, stop: threading.Event) -> None: ...

    def begin_shutdown(self) -> None: ...

    def stop(self) -> None: ...


class LocalExecutor:
    """This process, which does not survive work that freezes or kills it."""

    def follow_hint(self, kind: str, target: object) -> None:
        follow_hint(kind, target)

    def sweep(self, *, standby: bool, stop: threading.Event) -> None:
        catch_up(standby=standby, stop=stop)

    def begin_shutdown(self) -> None:
        """Leave the work that has begun alone."""

    def stop(self) -> None:
        cancel_all()


class Worker:
    """Threads of this process that work from `start` to `stop`; idle ones hold no connection."""

    def __init__(self, executor: Executor | None = None) -> None:
        self._place = executor or LocalExecutor()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._start_thread(self._sweep_quickly)
        self._start_thread(self._sweep)
        if not conf().deliver:
            for _ in range(conf().work_threads):
                self._start_thread(self._follow_hints)

    def begin_shutdown(self) -> None:
        """Begin nothing more. This returns at once; `stop` waits."""
        self._ending.set()
        hints.queue.clear()
        self._place.begin_shutdown()

    def stop(self) -> None:
        """Wait a moment for running work, then leave the rest to other processes."""
        self.begin_shutdown()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        self._place.stop()
        database.close_connections()

    def _start_thread(self, target: Callable[[], None]) -> None:
        # The threads are daemons: one that waits for a model must not keep the process from ending.
        thread = threading.Thread(target=target, name="convo-worker", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _sweep_quickly(self) -> None:
        # This has a thread of its own, because `_sweep` may wait for work that has frozen its process.
        while not self._ending.is_set():
            _call_safely("sweep", sweep_quickly)
            self._ending.wait(conf().sweep_seconds)

    def _sweep(self) -> None:
        while not self._ending.is_set():
            # With a broker, Celery's workers do slow work; this process steps in when they are gone.
            _call_safely("sweep", lambda: self._place.sweep(standby=bool(conf().deliver), stop=self._ending))
            self._ending.wait(conf().sweep_seconds)

    def _follow_hints(self) -> None:
        hints.change_listener_count(+1)
        while hint := hints.queue.take(self._ending):
            _call_safely("work", lambda hint=hint: self._place.follow_hint(*hint))  # type: ignore[misc]
        hints.change_listener_count(-1)


def _call_safely(name: str, function: Callable[[], None]) -> None:
    """Call the function and log its failure: nobody awaits these threads, and the next sweep must come."""
    try:
        function()
    except DatabaseError as error:
        logger.warning("background %s failed: %s", name, database.describe_failure(error))
    except Exception:  # a boundary: the thread must live
        logger.exception("background %s failed", name)
    finally:
        database.close_connections()
