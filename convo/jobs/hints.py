"""Hints that there may be work to do. Losing one costs nothing but time, because the sweep finds the work."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from django.db import transaction
from django.utils.module_loading import import_string

from convo.conf import conf
from convo.jobs.registry import is_for_many

logger = logging.getLogger(__name__)

Hint = tuple[str, str]
MAX_WAITING = 1000
PAUSE_SECONDS = 0.5


class HintQueue:
    """A queue of hints in order of arrival, each of them once, with a maximum length.

    The thread that takes a hint of a job for many rows does all that waits, so one such hint is enough. The
    next can be taken after a pause, in which more work gathers: at 30 turns a second, the work then takes a
    third of the processor time.
    """

    def __init__(self) -> None:
        self._hints: dict[Hint, Hint] = {}
        self._paused_until: dict[Hint, float] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._hints)

    def add(self, hint: Hint) -> None:
        key = (hint[0], "") if is_for_many(hint[0]) else hint
        with self._changed:
            if len(self._hints) < MAX_WAITING:
                self._hints.setdefault(key, hint)
                self._changed.notify()

    def take(self, stop: threading.Event) -> Hint | None:
        """Return the next hint as soon as there is one; None once `stop` is set."""
        with self._changed:
            while not stop.is_set():
                now = time.monotonic()
                waits = {key: self._paused_until.get(key, 0) - now for key in self._hints}
                if key := next((key for key, wait in waits.items() if wait <= 0), None):
                    if is_for_many(key[0]):
                        self._paused_until[key] = now + PAUSE_SECONDS
                    return self._hints.pop(key)
                self._changed.wait(min(waits.values(), default=None))
        return None

    def clear(self) -> None:
        with self._changed:
            self._hints.clear()
            self._changed.notify_all()


queue = HintQueue()

_lock = threading.Lock()
_listener_count = 0
_sender_thread: threading.Thread | None = None
_never_stop = threading.Event()
_forward_hint: Callable[[Hint], None] | None = None


def enqueue(name: str, pk: object) -> None:
    """Request this work soon after the transaction commits; another thread or process does it."""
    transaction.on_commit(partial(dispatch, (name, str(pk))), robust=True)


def change_listener_count(change: int) -> None:
    """Change the number of this process's threads that take hints and do the work themselves."""
    global _listener_count
    with _lock:
        _listener_count += change


def forward_to(forward: Callable[[Hint], None]) -> None:
    """Pass each hint of this process to `forward` from now on, which sends it to the parent process."""
    global _forward_hint
    _forward_hint = forward


def dispatch(hint: Hint) -> None:
    """Pass this hint on to the parent, the broker or a thread of this process, without waiting for it."""
    if _forward_hint is not None:
        _forward_hint(hint)
        return
    if conf().deliver:
        _start_sender()
    elif not _listener_count:
        return
    queue.add(hint)


def _start_sender() -> None:
    global _sender_thread
    with _lock:
        # A forked process does not inherit the thread.
        if _sender_thread is None or not _sender_thread.is_alive():
            _sender_thread = threading.Thread(target=_send, name="convo-hints", daemon=True)
            _sender_thread.start()


def _send() -> NoReturn:
    """Send hints to the broker, which may refuse, hang or be gone; only this thread waits for it."""
    while True:
        hint = queue.take(_never_stop)
        try:
            import_string(conf().deliver)(*(hint or ()))
        except Exception as error:  # a boundary: whatever is wrong with the broker, the sweep finds the work
            logger.warning(
                "the broker accepts no hints, the next sweep does their work: %s", type(error).__name__
            )
            queue.clear()
