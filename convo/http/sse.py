"""Server-sent events: a turn as a stream of frames, and the one way in which a view answers with a turn."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar
from uuid import UUID

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from rest_framework.utils.encoders import JSONEncoder

from convo import database, turns
from convo.conf import conf
from convo.errors import ConvoError, Interrupted
from convo.http.errors import envelope
from convo.http.show import result_json, started_json, usage_json
from convo.models import Turn
from convo.turns import Claim, Result, TurnLog

T = TypeVar("T")

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": hb\n\n"
# The kinds of items that a reader of this API gets to hear; the others come with the end.
_SPOKEN = {"message", "refusal"}


def frame(id: int, event: str, data: dict[str, Any]) -> bytes:
    """One event. Its data is one line of JSON, so no text of a model can end the event early."""
    line = json.dumps(data, cls=JSONEncoder, ensure_ascii=False)
    return f"id: {id}\nevent: {event}\ndata: {line}\n\n".encode()


def start(request: HttpRequest, claim: Claim) -> TurnLog:
    """Start the turn, detached from this request; where no event loop outlives the request, run it whole."""
    # Law 4: no connection is held while the model thinks.
    database.release()
    lasting = isinstance(request, ASGIRequest)
    return async_to_sync(turns.launch if lasting else turns.run_whole)(claim)


def answer(request: HttpRequest, claim: Claim, *, stop_when_left: bool = False) -> dict[str, Any]:
    """The whole answer to a claimed turn; a failed one is raised, with the ids of the turn that keeps it."""
    log = start(request, claim)
    ending = async_to_sync(heard)(log.ended(), log, stop_when_left=stop_when_left)
    if isinstance(ending, ConvoError):
        raise ending
    return told(claim.session_id, ending)


def told(session_id: UUID, result: Result) -> dict[str, Any]:
    """The whole answer of a turn that has ended; a failure is raised, with what there is of the answer."""
    whole = result_json(session_id, result)
    if failure := result.failure:
        failure.details = whole
        raise failure
    return whole


def stream(request: HttpRequest, claim: Claim, *, stop_when_left: bool = False) -> StreamingHttpResponse:
    """The answer as events, while it is written."""
    log = start(request, claim)
    reading = frames(claim.turn, claim.session_id, log)
    return respond(stopping(reading, log) if stop_when_left else reading)


def replay(turn: Turn, *, after: int) -> StreamingHttpResponse:
    """The events of a turn behind the one numbered `after`, from wherever it runs or ran."""
    database.release()
    return respond(_followed(turn, after))


def respond(events: AsyncIterator[bytes]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(events, content_type=MEDIA_TYPE)
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    response["Content-Encoding"] = "identity"
    return response


async def frames(turn: Turn, session_id: UUID, log: TurnLog, *, after: int = -1) -> AsyncIterator[bytes]:
    """turn.started, a delta for every piece of the reply, then usage and turn.completed, or error."""
    if after < 0:
        yield frame(0, "turn.started", {"session": str(session_id), "turn": started_json(turn)})
    number = max(after, 0)
    async for batch in log.follow(after=number, beat=conf().sse_heartbeat_seconds):
        if not batch:
            yield HEARTBEAT
            continue
        said = [(number + i, delta) for i, delta in enumerate(batch, 1) if delta.kind in _SPOKEN]
        yield b"".join(frame(i, "delta", {"text": delta.text}) for i, delta in said)
        number += len(batch)
    last = _last_frames(session_id, await turns.ending(turn, log))
    for id, (event, data) in enumerate(last, len(log.deltas) + 1):
        # A reader may have heard more than was saved before the process died: it is told all the same.
        cut_off = event == "error" and data["error"]["code"] == Interrupted.code
        if id > after or cut_off:
            yield frame(max(id, after + 1) if cut_off else id, event, data)


async def _followed(turn: Turn, after: int) -> AsyncIterator[bytes]:
    log = await turns.follow(turn)
    async for frame in frames(turn, turn.session_id, log, after=after):
        yield frame


async def stopping(events: AsyncIterator[bytes], log: TurnLog) -> AsyncIterator[bytes]:
    """The same events; a reader that leaves before the end stops the turn."""
    try:
        async for frame in events:
            yield frame
    finally:
        if log.ending is None:
            log.stop()


async def heard(waited_for: Awaitable[T], log: TurnLog, *, stop_when_left: bool) -> T:
    """What this log is waited for; a reader that leaves before it comes may stop the turn."""
    try:
        return await waited_for
    except asyncio.CancelledError:
        # The reader has left.
        if stop_when_left:
            log.stop()
        raise


def _last_frames(session_id: UUID, ending: Result | ConvoError) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(ending, ConvoError):
        return [("error", failed(ending))]
    whole = result_json(session_id, ending)
    if failure := ending.failure:
        return [("error", {**failed(failure), **whole})]
    return [("usage", usage_json(ending.turn)), ("turn.completed", whole)]


def failed(error: ConvoError) -> dict[str, Any]:
    return {**envelope(error), "retryable": error.retryable}
