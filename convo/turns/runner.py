"""The one runner: every turn, streamed or whole, is run by it, apart from whoever reads along."""

import asyncio
import logging
import time
from functools import partial

from django.db import DatabaseError

from convo import database, events, history, llm
from convo.conf import conf
from convo.errors import Cancelled, ConvoError, TurnInProgress, Unavailable
from convo.events import Log
from convo.history import Line
from convo.models import Session
from convo.turns.assemble import assemble
from convo.turns.claim import Claim, take
from convo.turns.finish import Result, finish
from convo.turns.heart import Pulse, beating
from convo.turns.reply import Reply

logger = logging.getLogger(__name__)

TurnLog = Log[Result | ConvoError]

QUEUE_POLL_SECONDS = 0.1
FINISH_POLL_SECONDS = 0.5

# The loop itself keeps only weak references to tasks.
_tasks: set[asyncio.Task[None]] = set()


async def launch(claim: Claim) -> TurnLog:
    """Start the turn and return its log at once: a reader that leaves takes nothing with it."""
    log = _log_for(claim)
    task = asyncio.create_task(_run(claim, log))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return log


async def run_whole(claim: Claim) -> TurnLog:
    """Run the turn to its end and return its log: for callers whose event loop ends with the call."""
    log = _log_for(claim)
    await _run(claim, log)
    return log


def _log_for(claim: Claim) -> TurnLog:
    log = TurnLog()
    events.register(claim.turn.key, log)
    if _may_be_kept(claim):
        events.mirror(claim.turn.key, log)
    return log


def _may_be_kept(claim: Claim) -> bool:
    """May what is said in this turn be kept anywhere, if only for a while?"""
    return claim.turn.session.storage != Session.Storage.NONE


async def answer(claim: Claim) -> Result:
    """Start the turn and wait for its end: the result, even a failed one, or the error that left none."""
    log = await launch(claim)
    ending = await log.ended()
    if isinstance(ending, ConvoError):
        raise ending
    return ending


async def _run(claim: Claim, log: TurnLog) -> None:
    reply = Reply()
    seen: list[Line] = []
    ending: Result | ConvoError = ConvoError()
    save = partial(history.save_draft, claim.turn) if _may_be_kept(claim) else None
    pulse = Pulse(asyncio.create_task(_ask(claim, reply, log, seen)), reply, save)
    log.stop = partial(pulse.stop, Cancelled())
    try:
        with beating(claim.turn.pk, pulse):
            error = await _outcome(pulse)
            result = await _finished(claim, reply, error, seen)
        ending = result or Cancelled("This turn was ended from outside: its session was cleared or deleted.")
    except Unavailable as lost:
        # The sweep ends the turn with what its draft has, when the database is back.
        ending = lost
    finally:
        pulse.work.cancel()
        log.end(ending)


async def _outcome(pulse: Pulse) -> ConvoError | None:
    """Why there is no whole reply. A border: nobody awaits this task, so every error must be told here."""
    try:
        await pulse.work
    except ConvoError as error:
        return error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return pulse.why
    except DatabaseError as error:
        logger.error("a turn lost the database: %s", type(error).__name__)
        return Unavailable()
    except Exception:
        logger.exception("a turn failed")
        return ConvoError()
    return None


async def _finished(claim: Claim, reply: Reply, error: ConvoError | None, seen: list[Line]) -> Result | None:
    """The turn's end, written down; a database that is away is waited for as long as the lease may last."""
    deadline = time.monotonic() + conf().lease_seconds
    while True:
        try:
            return await database.run(finish, claim, reply, error, seen)
        except (DatabaseError, Unavailable) as failed:
            logger.warning("a turn is not written yet: %s", type(failed).__name__)
            if time.monotonic() > deadline:
                raise Unavailable from failed
            await asyncio.sleep(FINISH_POLL_SECONDS)


async def _ask(claim: Claim, reply: Reply, log: TurnLog, seen: list[Line]) -> None:
    if claim.queued:
        claim = await _its_turn(claim)
    assembled = await database.run(assemble, claim)
    seen.extend([*assembled.hot, *claim.question])
    reply.model, reply.prompt_tokens = assembled.ask.model, assembled.total
    async for piece in llm.stream(assembled.ask, opened=log.open):
        if deltas := reply.add(piece):
            log.say(*deltas)


async def _its_turn(place: Claim) -> Claim:
    """Wait in the session's queue, holding nothing, until this turn is the first."""
    deadline = time.monotonic() + conf().queue_seconds
    while time.monotonic() < deadline:
        if claim := await database.run(take, place):
            return claim
        await asyncio.sleep(QUEUE_POLL_SECONDS)
    raise TurnInProgress("This question waited its time in the queue. Ask again.", retry_after=1)
