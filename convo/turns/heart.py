"""The heartbeat: renews the leases of this process's turns, saves their drafts, hears which are to stop."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError

from convo import database
from convo.conf import conf
from convo.errors import Cancelled, ConvoError, ServerShutdown
from convo.models import Turn
from convo.turns.reply import Reply

logger = logging.getLogger(__name__)

# Keeps a reply so far: its text, and how it was cut.
Save = Callable[[str, list[dict[str, Any]]], None]


class Pulse:
    """One running turn of this process: what it has said, and the handle to stop it."""

    def __init__(self, work: asyncio.Task[None], reply: Reply, save: Save | None) -> None:
        self.work = work
        self.reply = reply
        self._save = save
        self.why: ConvoError = Cancelled()
        self._saved = 0
        self._saved_at = time.monotonic()

    def stop(self, why: ConvoError) -> None:
        """End the work; the turn ends for this reason."""
        self.why = why
        self.work.cancel()

    def unsaved(self) -> Callable[[], None] | None:
        """What saves the draft and its cuts, when something is new and the last save is a while ago."""
        said, now = self.reply.said, time.monotonic()
        if self._save is None or said == self._saved or now - self._saved_at < conf().checkpoint_seconds:
            return None
        self._saved, self._saved_at = said, now
        return partial(self._save, self.reply.text, [strand.saved for strand in self.reply.strands])


class Heart:
    """One event loop's running turns, renewed together, twice a second, in one statement."""

    def __init__(self) -> None:
        self.turns: dict[int, Pulse] = {}
        self.stopping = False
        self._beating: asyncio.Task[None] | None = None

    def add(self, turn_id: int, pulse: Pulse) -> None:
        self.turns[turn_id] = pulse
        if self.stopping:
            pulse.stop(ServerShutdown())
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())

    def stop(self) -> None:
        """End every turn, because the process ends."""
        self.stopping = True
        for pulse in self.turns.values():
            pulse.stop(ServerShutdown())

    async def _beat(self) -> None:
        try:
            while self.turns:
                await asyncio.sleep(conf().heartbeat_seconds)
                await self._once()
        finally:
            # A task that is kept keeps its event loop.
            self._beating = None

    async def _once(self) -> None:
        ids = list(self.turns)
        saves = [save for pulse in self.turns.values() if (save := pulse.unsaved())]
        try:
            going_on = await database.run_at_once(_renew, ids, saves)
        except DatabaseError as error:
            # The lease outlasts many beats: the next one may find the database again.
            logger.warning("heartbeat missed: %s", type(error).__name__)
            return
        for turn_id in set(ids) - going_on:
            if pulse := self.turns.get(turn_id):
                pulse.stop(Cancelled())


_hearts: WeakKeyDictionary[asyncio.AbstractEventLoop, Heart] = WeakKeyDictionary()


def heart() -> Heart:
    """The heart of this event loop."""
    return _hearts.setdefault(asyncio.get_running_loop(), Heart())


def shut_down() -> None:
    """End the turns of this event loop, and those that still begin on it: the process is about to end."""
    heart().stop()


def stopping() -> bool:
    """Is this process about to end?"""
    return any(found.stopping for found in _hearts.values())


@contextmanager
def beating(turn_id: int, pulse: Pulse) -> Iterator[None]:
    """Keep this turn alive meanwhile; its work is cancelled when the rows say that it is to stop."""
    heart().add(turn_id, pulse)
    try:
        yield
    finally:
        del heart().turns[turn_id]


def _renew(ids: list[int], saves: Sequence[Callable[[], None]]) -> set[int]:
    """Renew the leases and save the drafts; the turns that are to go on."""
    alive = Turn.objects.unfinished().filter(pk__in=ids)
    alive.update(lease_until=database.in_seconds(conf().lease_seconds))
    for save in saves:
        save()
    return set(alive.filter(cancel_requested=False).values_list("pk", flat=True))
