"""The worker of a web process: it sweeps, and without a broker it also does the work that hints name."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from django.db import DatabaseError

from convo import database
from convo.conf import conf
from convo.jobs import hints
from convo.jobs.child import STOP_SECONDS
from convo.jobs.supervisor import Supervisor
from convo.jobs.sweep import sweep_quickly

logger = logging.getLogger(__name__)


class Worker:
    """Threads of this process that work from `start` to `stop`; idle ones hold no connection."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        # Each has a thread of its own, because `_sweep` may wait for work that has frozen its process.
        for function in (sweep_quickly, self._sweep):
            self._start_thread(partial(self._repeat, function))
        if not conf().deliver:
            for _ in range(conf().work_threads):
                self._start_thread(self._follow_hints)

    def begin_shutdown(self) -> None:
        """Begin nothing more. This returns at once; `stop` waits."""
        self._ending.set()
        hints.queue.clear()
        self._supervisor.begin_shutdown()

    def stop(self) -> None:
        """Wait a moment for running work, then leave the rest to other processes."""
        self.begin_shutdown()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        self._supervisor.stop()
        database.close_connections()

    def _start_thread(self, target: Callable[[], None]) -> None:
        # The threads are daemons: one that waits for a model must not keep the process from ending.
        thread = threading.Thread(target=target, name="convo-worker", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _repeat(self, function: Callable[[], None]) -> None:
        while not self._ending.is_set():
            _call_safely("sweep", function)
            self._ending.wait(conf().sweep_seconds)

    def _sweep(self) -> None:
        # With a broker, Celery's workers do slow work; this process steps in when they are gone.
        self._supervisor.sweep(standby=bool(conf().deliver))

    def _follow_hints(self) -> None:
        hints.change_listener_count(+1)
        while hint := hints.queue.take(self._ending):
            _call_safely("work", partial(self._supervisor.follow_hint, *hint))
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
