"""Run turns, when their time in the queue has come. Every turn is run here, independently of its readers."""

import asyncio
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import DatabaseError

from convo import database, events, llm
from convo.conf import conf
from convo.errors import ConvoError, DatabaseUnavailable, TurnCancelled, TurnInProgress
from convo.events import Log
from convo.turns.assemble import AssembledRequest, assemble
from convo.turns.claim import Claim, start_queued
from convo.turns.finish import TurnResult, finish
from convo.turns.leases import RunningTurn, keep_lease, may_store_texts

logger = logging.getLogger(__name__)

# The end of a turn for its readers: its result, or the error of a turn that has none.
Outcome = TurnResult | ConvoError
TurnLog = Log[Outcome]
Assembling = Future[AssembledRequest]

FINISH_POLL_SECONDS = 0.5

# The event loop itself keeps only weak references to tasks.
_tasks: set[asyncio.Task[None]] = set()


# The first turn polls at these intervals, shorter ones at the beginning, so that short replies follow one
# another quickly. A turn of the session that ends on the same event loop wakes it at once, so the intervals
# matter only if the turn before it runs elsewhere, or its process died.
POLL_SECONDS = 0.1
SHORTEST_POLL_SECONDS = 0.02
POLL_SHARE = 0.2

# The turns of one session that wait on one event loop: the event that wakes each of them, and its id.
WaitingTurns = dict[asyncio.Event, int]

_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[UUID, WaitingTurns]] = WeakKeyDictionary()


async def launch(claim: Claim) -> TurnLog:
    """Start the turn and return its log at once; the turn continues when its readers leave."""
    log = TurnLog()
    start(claim, log)
    return log


def start(claim: Claim, log: TurnLog, assembling: Assembling | None = None) -> asyncio.Task[None]:
    """Start the turn on this event loop, write its log, and return the task that ends with it."""
    events.register(claim.turn.key, log)
    if may_store_texts(claim):
        events.mirror(claim.turn.key, log)
    running_turn = RunningTurn(claim)
    reply_task = running_turn.start(_stream_reply(running_turn, log, assembling))
    log.stop = partial(running_turn.stop, TurnCancelled())
    task = asyncio.create_task(_run(running_turn, reply_task, log))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


def start_from_thread(loop: asyncio.AbstractEventLoop, claim: Claim, log: TurnLog) -> None:
    """Start the turn on this event loop, and assemble its request in this thread, which saves a switch.

    What has to wait, for its place in the queue or for an embedding model, is left to the event loop.
    """
    assembling = None if claim.is_queued or conf().embedding_model else Assembling()
    if assembling:
        # A runner that is stopped meanwhile doesn't cancel it.
        assembling.set_running_or_notify_cancel()
    loop.call_soon_threadsafe(start, claim, log, assembling)
    if assembling:
        try:
            assembling.set_result(assemble(claim))
        except BaseException as error:
            # The runner ends the turn with it.
            assembling.set_exception(error)


async def answer(claim: Claim) -> TurnResult:
    """Run the turn and return its result, also if it failed; raise the error of a turn that has no result."""
    log = await launch(claim)
    outcome = await log.wait_until_ended()
    if isinstance(outcome, ConvoError):
        raise outcome
    return outcome


async def _run(running_turn: RunningTurn, reply_task: asyncio.Task[None], log: TurnLog) -> None:
    outcome: Outcome = ConvoError()
    try:
        with keep_lease(running_turn):
            error = await _wait_for_error(running_turn, reply_task)
            result = await _finish_with_retries(running_turn, error)
        outcome = result or TurnCancelled(
            "This turn was ended from outside: its session was cleared or deleted."
        )
    except DatabaseUnavailable as unavailable:
        # The sweep ends the turn with its saved draft when the database is back.
        outcome = unavailable
    finally:
        reply_task.cancel()
        log.close(outcome)
        wake_first(running_turn.claim.session_id)


async def _wait_for_error(running_turn: RunningTurn, task: asyncio.Task[None]) -> ConvoError | None:
    """Wait for the task and return the error that ended it, if any.

    Every exception is caught, because nobody awaits the runner's task: an error would be lost.
    """
    try:
        await task
    except ConvoError as error:
        return error
    except asyncio.CancelledError:
        runner = asyncio.current_task()
        if runner is not None and runner.cancelling():
            raise
        return running_turn.error
    except DatabaseError as error:
        logger.error("a turn ended because the database failed: %s", database.describe_failure(error))
        return DatabaseUnavailable()
    except Exception:
        logger.exception("a turn failed")
        return ConvoError()
    return None


async def _finish_with_retries(running_turn: RunningTurn, error: ConvoError | None) -> TurnResult | None:
    # The database may be unavailable: keep trying for as long as the lease may last.
    deadline = time.monotonic() + conf().lease_seconds
    while True:
        try:
            return await database.run(
                finish, running_turn.claim, running_turn.reply, error, running_turn.assembled
            )
        except (DatabaseError, DatabaseUnavailable) as failure:
            logger.warning("a turn is not written yet: %s", database.describe_failure(failure))
            if time.monotonic() > deadline:
                raise DatabaseUnavailable from failure
            await asyncio.sleep(FINISH_POLL_SECONDS)


async def _stream_reply(running_turn: RunningTurn, log: TurnLog, assembling: Assembling | None) -> None:
    if running_turn.claim.is_queued:
        running_turn.claim = await wait_in_queue(running_turn.claim)
    reply = running_turn.reply
    assembled = await (
        asyncio.wrap_future(assembling) if assembling else database.run(assemble, running_turn.claim)
    )
    running_turn.assembled = assembled
    reply.model, reply.prompt_tokens = assembled.request.model, assembled.prompt.manifest["total"]
    async for event in llm.stream(assembled.request, opened=log.mark_accepted):
        if deltas := reply.add(event):
            log.append(*deltas)


async def wait_in_queue(queued_claim: Claim) -> Claim:
    """Wait, without a lock or connection, until this queued turn is first in its session, and start it."""
    deadline = time.monotonic() + conf().queue_seconds
    first_since = inf
    with _queue_entry(queued_claim) as (queue, wake_event):
        while (seconds_left := deadline - time.monotonic()) > 0:
            # The event is cleared before the database is asked, so that a wake-up in between isn't missed.
            wake_event.clear()
            is_first = _first_event(queue) is wake_event
            first_since = min(first_since, time.monotonic()) if is_first else inf
            if is_first and (claim := await database.run(start_queued, queued_claim)):
                return claim
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    min(seconds_left, _poll_seconds(first_since)) if is_first else seconds_left
                ):
                    await wake_event.wait()
    raise TurnInProgress("Timed out waiting in the queue; ask again.")


def wake_first(session_id: UUID) -> None:
    queues = _queues.get(asyncio.get_running_loop(), {})
    if queue := queues.get(session_id):
        _first_event(queue).set()


def _poll_seconds(first_since: float) -> float:
    return min(POLL_SECONDS, max(SHORTEST_POLL_SECONDS, POLL_SHARE * (time.monotonic() - first_since)))


def _first_event(queue: WaitingTurns) -> asyncio.Event:
    # Turns get their ids under the session's row lock, so the lowest id came first.
    return min(queue, key=queue.__getitem__)


@contextmanager
def _queue_entry(queued_claim: Claim) -> Iterator[tuple[WaitingTurns, asyncio.Event]]:
    queues = _queues.setdefault(asyncio.get_running_loop(), {})
    queue, wake_event = queues.setdefault(queued_claim.session_id, {}), asyncio.Event()
    queue[wake_event] = queued_claim.turn.pk
    try:
        yield queue, wake_event
    finally:
        # The next turn is woken when this one has ended, as every turn does.
        del queue[wake_event]
        if not queue:
            del queues[queued_claim.session_id]
