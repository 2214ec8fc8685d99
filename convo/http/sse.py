"""The result of a turn as server-sent events or as one response, for every view that answers with one."""

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
from convo.errors import ConvoError, NotAuthenticated, TurnInterrupted
from convo.events import Delta
from convo.http.credentials import Credentials
from convo.http.errors import envelope
from convo.http.representations import result_json, started_json, usage_json
from convo.models import Turn
from convo.turns import Claim, TurnLog, TurnResult

T = TypeVar("T")

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": hb\n\n"
# Only these kinds of deltas are streamed; everything else comes with the last event.
_STREAMED_KINDS = {"message", "refusal"}


def frame(id: int | None, event: str, data: dict[str, Any]) -> bytes:
    """Return one event. Its data is one line of JSON, so no text of a model can end the event early."""
    json_line = json.dumps(data, cls=JSONEncoder, ensure_ascii=False)
    id_line = "" if id is None else f"id: {id}\n"
    return f"{id_line}event: {event}\ndata: {json_line}\n\n".encode()


def start_turn(request: HttpRequest, claim: Claim) -> TurnLog:
    """Start the turn, detached from this request, or run it to its end if the event loop is the request's."""
    # Law 4: no connection is held while the model works.
    database.close_connections()
    has_lasting_loop = isinstance(request, ASGIRequest)
    return async_to_sync(turns.launch if has_lasting_loop else turns.run_to_end)(claim)


def answer(request: HttpRequest, claim: Claim, *, stop_on_disconnect: bool = False) -> dict[str, Any]:
    """Return the result of a claimed turn, or raise its failure, with the ids of the stored turn."""
    log, credentials = start_turn(request, claim), Credentials(request)
    ending = async_to_sync(wait_or_cancel)(
        log.wait_until_ended(), log, credentials, stop_when_left=stop_on_disconnect
    )
    if isinstance(ending, ConvoError):
        raise ending
    return result_or_raise(claim.session_id, ending)


def result_or_raise(session_id: UUID, result: TurnResult) -> dict[str, Any]:
    """Return the result of a turn that has ended, or raise its failure, with what there is of the reply."""
    json_result = result_json(session_id, result)
    if failure := result.failure:
        failure.details = json_result
        raise failure
    return json_result


def stream(request: HttpRequest, claim: Claim, *, stop_when_left: bool = False) -> StreamingHttpResponse:
    log = start_turn(request, claim)
    events = frames(claim.turn, claim.session_id, log, Credentials(request))
    return event_stream_response(cancel_on_disconnect(events, log) if stop_when_left else events)


def replay(request: HttpRequest, turn: Turn, *, after: int) -> StreamingHttpResponse:
    """Stream the events of a turn after number `after`, in whichever process it runs or ran."""
    database.close_connections()
    return event_stream_response(_followed_frames(turn, Credentials(request), after))


def event_stream_response(events: AsyncIterator[bytes]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(events, content_type=MEDIA_TYPE)
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    response["Content-Encoding"] = "identity"
    return response


async def read(log: TurnLog, credentials: Credentials, *, after: int = 0) -> AsyncIterator[list[Delta]]:
    """Yield the deltas after the first `after` as they come, in batches, an empty one for a heartbeat.

    Raises NotAuthenticated once the reader's credentials have ended.
    """
    batches = log.follow(after=after, heartbeat_seconds=conf().sse_heartbeat_seconds)
    while True:
        async with credentials.while_valid():
            batch = await anext(batches, None)
        if batch is None:
            return
        yield batch


async def frames(
    turn: Turn, session_id: UUID, log: TurnLog, credentials: Credentials, *, after: int = -1
) -> AsyncIterator[bytes]:
    """Yield turn.started, a delta for each chunk of the reply, then usage and turn.completed, or error."""
    if after < 0:
        yield frame(0, "turn.started", {"session": str(session_id), "turn": started_json(turn)})
    number = max(after, 0)
    try:
        async for batch in read(log, credentials, after=number):
            if not batch:
                yield HEARTBEAT
                continue
            streamed_deltas = [
                (number + i, delta) for i, delta in enumerate(batch, 1) if delta.kind in _STREAMED_KINDS
            ]
            yield b"".join(frame(i, "delta", {"text": delta.text}) for i, delta in streamed_deltas)
            number += len(batch)
    except NotAuthenticated as error:
        # This is no event of the turn and has no id: a client that reconnects continues after the last id.
        yield frame(None, "error", error_event_json(error))
        return
    last_events = _last_events(session_id, await turns.wait_for_ending(turn, log))
    for id, (event, data) in enumerate(last_events, len(log.deltas) + 1):
        # A reader may have received more than was saved before the process died, and gets this all the same.
        is_interrupted = event == "error" and data["error"]["code"] == TurnInterrupted.code
        if id > after or is_interrupted:
            yield frame(max(id, after + 1) if is_interrupted else id, event, data)


async def _followed_frames(turn: Turn, credentials: Credentials, after: int) -> AsyncIterator[bytes]:
    log = await turns.follow(turn)
    async for frame in frames(turn, turn.session_id, log, credentials, after=after):
        yield frame


async def cancel_on_disconnect(events: AsyncIterator[bytes], log: TurnLog) -> AsyncIterator[bytes]:
    """Yield the same events, and stop the turn if the client disconnects before its end."""
    try:
        async for frame in events:
            yield frame
    finally:
        if log.ending is None:
            log.stop()


async def wait_or_cancel(
    awaitable: Awaitable[T], log: TurnLog, credentials: Credentials, *, stop_when_left: bool
) -> T:
    """Wait for a result of this log; stop the turn if the client disconnects and `stop_when_left` is set."""
    try:
        async with credentials.while_valid():
            return await awaitable
    except (asyncio.CancelledError, NotAuthenticated):
        # A client whose credentials have ended counts as disconnected.
        if stop_when_left:
            log.stop()
        raise


def _last_events(session_id: UUID, ending: TurnResult | ConvoError) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(ending, ConvoError):
        return [("error", error_event_json(ending))]
    json_result = result_json(session_id, ending)
    if failure := ending.failure:
        return [("error", {**error_event_json(failure), **json_result})]
    return [("usage", usage_json(ending.turn)), ("turn.completed", json_result)]


def error_event_json(error: ConvoError) -> dict[str, Any]:
    return {**envelope(error), "retryable": error.retryable, "retry_after": error.retry_after}
