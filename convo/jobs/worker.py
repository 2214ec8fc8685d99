"""The worker inside a web process: it sweeps, and without a broker it does what hints are about."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError

from convo import database
from convo.conf import conf
from convo.jobs import hints
from convo.jobs.lease import give_back_all
from convo.jobs.run import run
from convo.jobs.sweep import sweep

logger = logging.getLogger(__name__)

STOP_SECONDS = 3


class Worker:
    """Some threads of this process, from `start` to `stop`; idle ones hold nothing."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._thread(self._sweep)
        if not conf().deliver:
            for _ in range(conf().work_threads):
                self._thread(self._work)

    def end(self) -> None:
        """Begin nothing more. This returns at once; `stop` waits."""
        self._ending.set()
        hints.waiting.forget()

    def stop(self) -> None:
        """Let what is being done come to its end, if that is soon, and leave the rest to others."""
        self.end()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            give_back_all()
        database.release()

    def _thread(self, target: Callable[[], None]) -> None:
        # A daemon: one that waits for a model must not keep the process from ending.
        thread = threading.Thread(target=target, name="convo-worker", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _sweep(self) -> None:
        while not self._ending.is_set():
            # With a broker, workers do what takes long; this process steps in when they are gone.
            _survived("sweep", lambda: sweep(spare=bool(conf().deliver), stop=self._ending))
            self._ending.wait(conf().sweep_seconds)

    def _work(self) -> None:
        hints.listen(+1)
        while hint := hints.waiting.take(self._ending):
            _survived("work", lambda hint=hint: run(*hint))  # type: ignore[misc]
        hints.listen(-1)


def _survived(what: str, call: Callable[[], None]) -> None:
    """Call it, and live: nobody awaits these threads, and the next sweep must come."""
    try:
        call()
    except DatabaseError as error:
        logger.warning("%s missed: %s", what, type(error).__name__)
    except Exception:  # a border
        logger.exception("%s failed", what)
    finally:
        database.release()
