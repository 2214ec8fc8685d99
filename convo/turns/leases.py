"""The heartbeat: it renews the leases of this process's turns, saves drafts, and stops cancelled turns."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from weakref import WeakKeyDictionary

from django.db import DatabaseError

from convo import database
from convo.conf import conf
from convo.errors import ConvoError, ServerShutdown, TurnCancelled
from convo.models import ItemOutline, Turn
from convo.turns.reply import ReplyBuilder

logger = logging.getLogger(__name__)

# Saves an unfinished reply: its text, and the lengths of the deltas of each item.
SaveDraft = Callable[[str, list[ItemOutline]], None]


class RunningTurn:
    """A running turn of this process: its reply so far, and the task to cancel in order to stop it."""

    def __init__(self, task: asyncio.Task[None], reply: ReplyBuilder, save: SaveDraft | None) -> None:
        self.task = task
        self.reply = reply
        self._save = save
        self.error: ConvoError = TurnCancelled()
        self._saved_delta_count = 0
        self._saved_at = time.monotonic()

    def stop(self, error: ConvoError) -> None:
        self.error = error
        self.task.cancel()

    def due_save(self) -> Callable[[], None] | None:
        """Return a function that saves the draft, or None while nothing is new or no save is due."""
        delta_count, now = self.reply.delta_count, time.monotonic()
        # Save at the beat nearest to the due time: beats are never quite punctual, and the next one may be
        # just as late as this one is early.
        due_at = self._saved_at + conf().checkpoint_seconds - conf().heartbeat_seconds / 2
        if self._save is None or delta_count == self._saved_delta_count or now < due_at:
            return None
        text, outlines = self.reply.text, [item.outline() for item in self.reply.items]
        return partial(self._save_draft, delta_count, now, text, outlines)

    def _save_draft(self, delta_count: int, moment: float, text: str, outlines: list[ItemOutline]) -> None:
        assert self._save is not None  # without it `due_save` returns None
        self._save(text, outlines)
        # These are set after the save, so that the next beat repeats a save that failed.
        self._saved_delta_count, self._saved_at = delta_count, moment


class Heartbeat:
    """The running turns of one event loop. One statement renews all leases, by default twice a second."""

    def __init__(self) -> None:
        self.turns: dict[int, RunningTurn] = {}
        self.is_stopping = False
        self._task: asyncio.Task[None] | None = None

    def add(self, turn_id: int, running_turn: RunningTurn) -> None:
        self.turns[turn_id] = running_turn
        if self.is_stopping:
            running_turn.stop(ServerShutdown())
        if self._task is None:
            # The task serves every turn, so its log lines must not name the request that started it.
            self._task = asyncio.create_task(self._run(), context=Context())

    def stop(self) -> None:
        self.is_stopping = True
        for running_turn in self.turns.values():
            running_turn.stop(ServerShutdown())

    async def _run(self) -> None:
        try:
            due_at = time.monotonic()
            while self.turns:
                # A slow beat neither delays the next one by its full length nor removes the pause before it.
                pause = conf().heartbeat_seconds
                due_at = max(due_at + pause, time.monotonic() + pause / 2)
                await asyncio.sleep(due_at - time.monotonic())
                await self._beat()
        finally:
            # A finished task that is still referenced would keep its event loop alive.
            self._task = None

    async def _beat(self) -> None:
        ids = list(self.turns)
        saves = [save for running_turn in self.turns.values() if (save := running_turn.due_save())]
        try:
            active_ids = await database.run_on_heartbeat_thread(_renew_and_save, ids, saves)
        except DatabaseError as error:
            # The lease outlasts many beats, so the next beat may reach the database in time.
            logger.warning("heartbeat missed: %s", database.describe_failure(error))
            return
        for turn_id in set(ids) - active_ids:
            if running_turn := self.turns.get(turn_id):
                running_turn.stop(TurnCancelled())


_heartbeats: WeakKeyDictionary[asyncio.AbstractEventLoop, Heartbeat] = WeakKeyDictionary()


def heartbeat() -> Heartbeat:
    return _heartbeats.setdefault(asyncio.get_running_loop(), Heartbeat())


def shut_down() -> None:
    """End the turns of this event loop, and those that still begin on it: the process is about to end."""
    heartbeat().stop()


def is_shutting_down() -> bool:
    return any(loop_heartbeat.is_stopping for loop_heartbeat in _heartbeats.values())


@contextmanager
def keep_lease(turn_id: int, running_turn: RunningTurn) -> Iterator[None]:
    """Keep the turn's lease inside this context; cancel its task when the database says that it must stop."""
    heartbeat().add(turn_id, running_turn)
    try:
        yield
    finally:
        del heartbeat().turns[turn_id]


def _renew_and_save(ids: list[int], saves: Sequence[Callable[[], None]]) -> set[int]:
    """Renew the leases, save the drafts, and return the ids of the turns that may go on."""
    alive = Turn.objects.unfinished().filter(pk__in=ids)
    alive.update(lease_until=database.seconds_from_now(conf().lease_seconds))
    for save in saves:
        save()
    return set(alive.filter(cancel_requested=False).values_list("pk", flat=True))
