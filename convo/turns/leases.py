"""The heartbeat: it renews the leases of this process's turns, saves drafts, and stops cancelled turns."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import DatabaseError

from convo import database
from convo.conf import conf
from convo.errors import ConvoError, ServerShutdown, TurnCancelled
from convo.history import statements
from convo.history.statements import Draft
from convo.history.turn_contents import save_drafts
from convo.models import Session
from convo.turns.assemble import AssembledRequest
from convo.turns.claim import Claim
from convo.turns.reply import ReplyBuilder

logger = logging.getLogger(__name__)


class RunningTurn:
    """A running turn of this process: its request and its reply so far, once there are any."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.assembled: AssembledRequest | None = None
        self.reply = ReplyBuilder()
        self.error: ConvoError = TurnCancelled()
        self._task: asyncio.Task[None] | None = None
        self._saved_delta_count = 0
        self._saved_at = time.monotonic()

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start the task which asks the model; `stop` cancels it."""
        self._task = asyncio.create_task(work)
        return self._task

    def stop(self, error: ConvoError) -> None:
        self.error = error
        if self._task:
            self._task.cancel()

    def due_draft(self) -> Draft | None:
        """Return the draft to save, or None while nothing is new or no save is due."""
        delta_count, now = self.reply.delta_count, time.monotonic()
        # Save at the beat nearest to the due time: beats are never quite punctual, and the next one may be
        # just as late as this one is early.
        due_at = self._saved_at + conf().checkpoint_seconds - conf().heartbeat_seconds / 2
        if not may_store_texts(self.claim) or delta_count == self._saved_delta_count or now < due_at:
            return None
        return Draft(
            turn=self.claim.turn,
            text=self.reply.text,
            chunks=[item.outline() for item in self.reply.items],
            # Only the first save needs it: it doesn't change.
            prompt=self.assembled.prompt if self.assembled and not self._saved_delta_count else None,
        )

    def mark_saved(self, draft: Draft) -> None:
        """Record that this draft is saved. One that could not be saved is repeated at the next beat."""
        self._saved_delta_count = sum(len(outline["chunk_lengths"]) for outline in draft.chunks)
        self._saved_at = time.monotonic()


def may_store_texts(claim: Claim) -> bool:
    return claim.turn.session.storage != Session.Storage.NONE


class Heartbeat:
    """The running turns of one event loop. One statement renews all leases, by default twice a second."""

    def __init__(self) -> None:
        self.turns: dict[UUID, RunningTurn] = {}
        self.is_stopping = False
        self._task: asyncio.Task[None] | None = None

    def add(self, running_turn: RunningTurn) -> None:
        self.turns[running_turn.claim.turn.key] = running_turn
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
                # A turn that stores only its usage has no row until its end, and nothing to renew.
                if stored_turns := {id: turn for turn in self.turns.values() if (id := turn.claim.turn.pk)}:
                    await self._beat(stored_turns)
        finally:
            # A finished task that is still referenced would keep its event loop alive.
            self._task = None

    async def _beat(self, turns: dict[int, RunningTurn]) -> None:
        drafts = [
            (running_turn, draft) for running_turn in turns.values() if (draft := running_turn.due_draft())
        ]
        try:
            active_ids = await database.run_on_heartbeat_thread(
                _renew_and_save, list(turns), [draft for _, draft in drafts]
            )
        except DatabaseError as error:
            # The lease outlasts many beats, so the next beat may reach the database in time.
            logger.warning("heartbeat missed: %s", database.describe_failure(error))
            return
        for running_turn, draft in drafts:
            running_turn.mark_saved(draft)
        for turn_id in turns.keys() - active_ids:
            turns[turn_id].stop(TurnCancelled())


_heartbeats: WeakKeyDictionary[asyncio.AbstractEventLoop, Heartbeat] = WeakKeyDictionary()


def heartbeat() -> Heartbeat:
    return _heartbeats.setdefault(asyncio.get_running_loop(), Heartbeat())


def shut_down() -> None:
    """End the turns of this event loop, and those that still begin on it: the process is about to end."""
    heartbeat().stop()


def is_shutting_down() -> bool:
    return any(loop_heartbeat.is_stopping for loop_heartbeat in _heartbeats.values())


@contextmanager
def keep_lease(running_turn: RunningTurn) -> Iterator[None]:
    """Keep the turn's lease inside this context; cancel its task when the database says that it must stop."""
    heartbeat().add(running_turn)
    try:
        yield
    finally:
        del heartbeat().turns[running_turn.claim.turn.key]


def _renew_and_save(ids: list[int], drafts: Sequence[Draft]) -> set[int]:
    """Renew the leases, save the drafts, and return the ids of the turns that may go on."""
    active_ids = statements.renew_leases(ids, conf().lease_seconds)
    save_drafts(drafts)
    return active_ids
