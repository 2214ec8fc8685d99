"""Hints: there may be work for you. Losing one costs nothing but time, for the sweep finds the work."""

import logging
import threading
from functools import partial
from typing import NoReturn

from django.db import transaction
from django.utils.module_loading import import_string

from convo.conf import conf

logger = logging.getLogger(__name__)

Hint = tuple[str, str]
MOST_WAITING = 1000


class Waiting:
    """Hints in the order in which they came, each of them once, and not too many."""

    def __init__(self) -> None:
        self._hints: dict[Hint, None] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._hints)

    def add(self, hint: Hint) -> None:
        with self._changed:
            if len(self._hints) < MOST_WAITING:
                self._hints[hint] = None
                self._changed.notify()

    def take(self, stop: threading.Event) -> Hint | None:
        """The next one, as soon as there is one; None once `stop` is set."""
        with self._changed:
            self._changed.wait_for(lambda: self._hints or stop.is_set())
            if stop.is_set():
                return None
            hint = next(iter(self._hints))
            del self._hints[hint]
            return hint

    def forget(self) -> None:
        """Drop all of them, and wake those that wait for one."""
        with self._changed:
            self._hints.clear()
            self._changed.notify_all()


waiting = Waiting()

_lock = threading.Lock()
_listening = 0
_sender: threading.Thread | None = None
_never = threading.Event()


def later(name: str, pk: object) -> None:
    """Have this work begun soon after the transaction, elsewhere; whoever calls waits for nothing."""
    transaction.on_commit(partial(_hint, (name, str(pk))), robust=True)


def listen(change: int) -> None:
    """So many threads more, or less, of this process take hints and do the work themselves."""
    global _listening
    with _lock:
        _listening += change


def _hint(hint: Hint) -> None:
    if conf().deliver:
        _start_sender()
    elif not _listening:
        return
    waiting.add(hint)


def _start_sender() -> None:
    """See that the thread runs; a process that was forked has lost it."""
    global _sender
    with _lock:
        if _sender is None or not _sender.is_alive():
            _sender = threading.Thread(target=_send, name="convo-hints", daemon=True)
            _sender.start()


def _send() -> NoReturn:
    """Hand hints to the broker, which may refuse, hang or be gone: only this thread waits for it."""
    while True:
        hint = waiting.take(_never)
        try:
            import_string(conf().deliver)(*(hint or ()))
        except Exception as error:  # a border: whatever is wrong with the broker, the sweep makes up for it
            logger.warning("the broker takes no hints, the sweep will do: %s", type(error).__name__)
            waiting.forget()
