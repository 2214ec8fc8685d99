"""Run background work in a child process, which is ended when work takes too long, and started again.

When a child ends in the middle of several pieces of work, nobody knows which of them was to blame. The next
child gets them one at a time, before anything else, so that only the one that ends it again is counted.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from math import inf
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from convo import database
from convo.conf import conf
from convo.errors import ConvoError
from convo.jobs import hints, ledger
from convo.jobs.child import STOP_SECONDS
from convo.jobs.lease import Leases
from convo.jobs.registry import is_for_many
from convo.models import Work

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
# After a child that has lived for less than this, the next one is started after a pause.
SHORT_LIFE_SECONDS = 5
PAUSE_SECONDS = 1
DUMP_SECONDS = 0.3


class ProcessLost(ConvoError):
    """The process that did this work has ended."""

    code = "process_lost"


class TimeLimitExceeded(ConvoError):
    """This work took longer than CONVO_TASK_SECONDS, so its process was ended."""

    code = "time_over"


@dataclass(frozen=True, kw_only=True)
class RunningWork:
    """Work that a child has begun: attempts of one holder with their leases, or a function of the sweep."""

    name: str
    deadline: float
    attempts: Sequence[Work] = ()

    @property
    def is_sweep(self) -> bool:
        return any(work.kind == Work.SWEEP for work in self.attempts)


class Supervisor:
    """Runs one child at a time, which is started when there is something to do."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._started_at = 0.0
        self._numbers = count(1)
        self._open_requests: dict[int, Sequence[Any]] = {}
        self._pieces: dict[str, RunningWork] = {}
        self._suspects: deque[tuple[str, str]] = deque()
        self._trying_suspects = False
        self._time_over = False
        self._ending = False
        self._leases = Leases()

    def follow_hint(self, kind: str, target: object) -> None:
        """Run in the child what this hint names, and of a job for many rows all that waits.

        Return when it is done, or when the child has ended.
        """
        self._ask("hint", kind, str(target))

    def sweep(self, *, standby: bool = False) -> None:
        # The parent checks this, because a process that only steps in for lost workers needs no child before.
        if ledger.can_start_sweep(standby=standby):
            self._ask("sweep", standby)

    def begin_shutdown(self) -> None:
        """Begin nothing more. This returns at once; `stop` waits."""
        with self._changed:
            process = None if self._ending else self._process
            self._ending = True
            self._changed.notify_all()
        if process:
            with suppress(OSError, ValueError):
                self._send(process, "stop")

    def stop(self) -> None:
        """Give the child a moment to end, then give its unfinished work back to the ledger."""
        self.begin_shutdown()
        if process := self._process:
            try:
                process.wait(STOP_SECONDS + 1)
            except subprocess.TimeoutExpired:
                process.kill()
        self._leases.cancel_all()
        database.close_connections()

    def _ask(self, request_type: str, *arguments: object, suspect: bool = False) -> None:
        """Send a request to the child, and wait until it is done or the child has ended."""
        with self._changed:
            self._changed.wait_for(lambda: suspect or self._ending or not self._trying_suspects)
            if self._ending:
                return
            process = self._process or self._start_child()
            number = next(self._numbers)
            self._open_requests[number] = request_type, *arguments
        try:
            with suppress(OSError, ValueError):  # the child has ended meanwhile, as its listener notices
                self._send(process, request_type, number, *arguments)
            with self._changed:
                self._changed.wait_for(lambda: number not in self._open_requests)
        except BaseException:
            # This process was told to end.
            self.stop()
            raise

    def _start_child(self) -> "subprocess.Popen[str]":
        path = os.pathsep.join(filter(None, sys.path))
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "django", "work"],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._started_at, self._time_over = time.monotonic(), False
        for target in (self._listen, self._watch):
            threading.Thread(target=target, args=[process], name="convo-supervisor", daemon=True).start()
        return process

    def _send(self, process: "subprocess.Popen[str]", *message: object) -> None:
        assert process.stdin  # it was opened with a pipe
        with self._changed:
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout  # it was opened with a pipe
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # the child has ended in the middle of a line
            report_type, *arguments = json.loads(line)
            if report_type == "hint":
                hints.dispatch((arguments[0], arguments[1]))
            else:
                self._handle_report(report_type, *arguments)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe.close() if pipe else None
        self._record_end()
        self._try_suspects()

    def _handle_report(self, report_type: str, reference: Any, *arguments: Any) -> None:
        with self._changed:
            if report_type == "done":
                self._open_requests.pop(reference, None)
                self._changed.notify_all()
            elif report_type == "end":
                piece = self._pieces.pop(reference, None)
                if piece and piece.attempts:
                    self._leases.remove(piece.attempts)
            else:
                self._pieces[reference] = piece = _parse_piece(*arguments)
                if piece.attempts:
                    self._leases.add(piece.attempts, until=inf)

    def _watch(self, process: "subprocess.Popen[str]") -> None:
        while process.poll() is None:
            with self._changed:
                late = [piece for piece in self._pieces.values() if piece.deadline < time.monotonic()]
                self._time_over = bool(late)
            if late:
                names = ", ".join(piece.name for piece in late)
                logger.error("%s took longer than CONVO_TASK_SECONDS, so its process is killed", names)
                _kill(process)
                return
            time.sleep(POLL_SECONDS)

    def _record_end(self) -> None:
        """Record in the ledger what an ended child was doing; if that fails, the leases run out."""
        with self._changed:
            pieces, self._pieces = list(self._pieces.values()), {}
            if time.monotonic() - self._started_at < SHORT_LIFE_SECONDS:
                time.sleep(PAUSE_SECONDS)
            self._process = None
            begun_work = {(work.kind, work.target) for piece in pieces for work in piece.attempts}
            # What hints named is found again from the rows.
            requested_work = [
                (arguments[0], arguments[1])
                for request_type, *arguments in self._open_requests.values()
                if request_type == "run" or (request_type == "hint" and not is_for_many(arguments[0]))
            ]
            # Requests that the child had not begun are not to blame, but they still have to be done.
            self._suspects.extend(work for work in requested_work if work not in begun_work)
            self._open_requests.clear()
        for piece in pieces:
            if piece.attempts:
                self._leases.remove(piece.attempts)
        try:
            self._account_for([piece for piece in pieces if not piece.is_sweep])
            for piece in pieces:
                if piece.is_sweep:
                    ledger.end_sweep(piece.attempts[0], caught_up=False)
        except DatabaseError as error:
            logger.warning(
                "the end of a process was not recorded in the ledger: %s", database.describe_failure(error)
            )
        finally:
            database.close_connections()
            with self._changed:
                self._changed.notify_all()

    def _account_for(self, pieces: Sequence[RunningWork]) -> None:
        """Count the attempt that ended the child if it was the only one; else find out which did."""
        if pieces and not self._ending:
            logger.error(
                "the process for background work ended in the middle of %d pieces of work", len(pieces)
            )
        interrupted = [work for piece in pieces for work in piece.attempts]
        if len(pieces) == len(interrupted) == 1 and not self._ending:
            ledger.record_failure(interrupted[0], TimeLimitExceeded() if self._time_over else ProcessLost())
            return
        ledger.cancel_attempts(interrupted)
        if not self._ending:
            with self._changed:
                self._suspects.extend((work.kind, work.target) for work in interrupted)

    def _try_suspects(self) -> None:
        with self._changed:
            if self._trying_suspects or not self._suspects:
                return
            self._trying_suspects = True
        try:
            while self._suspects and not self._ending:
                self._ask("run", *self._suspects.popleft(), suspect=True)
        finally:
            with self._changed:
                self._trying_suspects = False
                self._changed.notify_all()


def _parse_piece(details: Any) -> RunningWork:
    deadline = time.monotonic() + conf().task_seconds
    if isinstance(details, str):
        return RunningWork(name=details, deadline=deadline)
    attempts = [Work(**fields) for fields in details]
    name = f"{attempts[0].kind} {'+'.join(work.target for work in attempts[:3])}"
    piece = RunningWork(name=name, deadline=deadline, attempts=attempts)
    # A sweep has no deadline, because each piece of work in it has its own.
    return replace(piece, deadline=inf) if piece.is_sweep else piece


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a process that may be frozen, after it has written its stacks to the log."""
    if hasattr(signal, "SIGUSR1"):
        process.send_signal(signal.SIGUSR1)
        time.sleep(DUMP_SECONDS)
    process.kill()


def supervisor() -> Supervisor:
    """Return the supervisor of this process; a forked process gets one of its own."""
    return _supervisor_of(os.getpid())


@cache
def _supervisor_of(pid: int) -> Supervisor:
    return Supervisor()
