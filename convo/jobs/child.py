"""The child process that does background work; its parent may end it at any moment.

Work that freezes or kills the child then harms no request. Both sides write lines of JSON. The parent sends
`["hint", number, kind, target]`, `["run", number, kind, target]`, `["sweep", number, standby]` and
`["stop"]`. The child sends `["begin", holder, attempts]` and `["end", holder]` around attempts of one holder,
`["begin", holder, name]` around a function of the sweep, `["hint", kind, target]`, and `["done", number]`
when a request is done.
"""

import faulthandler
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any
from uuid import uuid4

from convo import database, heap
from convo.conf import conf
from convo.jobs import hints, lease, ledger
from convo.jobs.run import follow_hint, run
from convo.jobs.sweep import catch_up
from convo.models import Work

logger = logging.getLogger(__name__)

STOP_SECONDS = 3
# The parent needs these fields of an attempt to renew its lease, and to record how it ended.
REPORTED_FIELDS = ("pk", "kind", "target", "attempts", "holder", "error")


class Child:
    """The child's side of the pipes: does what the parent requests, and reports what it works on."""

    def __init__(self, answers: IO[str]) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self._attempts: dict[str, Sequence[Work]] = {}
        self._threads: list[threading.Thread] = []
        self._ending = threading.Event()

    def serve(self, requests: IO[str]) -> None:
        """Handle each request in a thread of its own until told to stop, then exit the process."""
        _dump_stacks_on_request()
        lease.set_reporter(self)
        hints.forward_to(lambda hint: self._send("hint", *hint))
        threading.Thread(target=_end_when_frozen, daemon=True).start()
        for line in requests:
            request = json.loads(line)
            if request == ["stop"]:
                self._stop()
                # A thread that waits for a model must not keep the process from ending.
                os._exit(0)
            thread = threading.Thread(target=self._handle, args=request, daemon=True)
            thread.start()
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        # The parent is gone without a stop request, so nobody waits for what this process does.
        os._exit(1)

    @contextmanager
    def attempt(self, attempts: Sequence[Work]) -> Iterator[None]:
        holder = attempts[0].holder
        self._attempts[holder] = attempts
        self._send(
            "begin", holder, [{name: getattr(work, name) for name in REPORTED_FIELDS} for work in attempts]
        )
        try:
            yield
        finally:
            self._attempts.pop(holder, None)
            self._send("end", holder)

    @contextmanager
    def batch(self, name: str) -> Iterator[None]:
        holder = uuid4().hex
        self._send("begin", holder, name)
        try:
            yield
        finally:
            self._send("end", holder)

    def _handle(self, request_type: str, number: int, *arguments: Any) -> None:
        try:
            if request_type == "run":
                run(*arguments)
            elif request_type == "hint":
                follow_hint(*arguments)
            else:
                catch_up(standby=arguments[0], stop=self._ending)
        except Exception as error:  # a boundary: the sweep redoes what isn't in the ledger
            logger.warning("background %s failed: %s", request_type, database.describe_failure(error))
        finally:
            database.close_connections()
            # The work may have read a long message into memory as a whole.
            heap.trim()
            self._send("done", number)

    def _stop(self) -> None:
        """Wait a moment for running work, then give the rest back to the ledger."""
        self._ending.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        for attempts in list(self._attempts.values()):
            ledger.cancel_attempts(attempts)
        database.close_connections()

    def _send(self, *message: object) -> None:
        with self._lock:
            try:
                self._answers.write(json.dumps(message) + "\n")
                self._answers.flush()
            except OSError:
                os._exit(1)  # the parent is gone


def _dump_stacks_on_request() -> None:
    """Write each thread's stack to the log on SIGUSR1, even while one of them holds the interpreter."""
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1)


def _end_when_frozen() -> None:
    """Exit after a time in which no thread could run, in case the parent is gone and can't end it."""
    while True:
        faulthandler.dump_traceback_later(2 * conf().task_seconds + 10, exit=True)
        time.sleep(1)
