"""Answer a request with a turn: the path from a question to its reply, the same on every surface.

`answer` claims a turn with the surface's `begin`, starts it, and returns the reply whole or as events. Under
an idempotency key that was used before, it replays the earlier reply. Each surface renders with its `Reply`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from convo import database, turns
from convo.conf import conf
from convo.errors import ConvoError, IdempotencyKeyInUse, NotAuthenticated, ResultDeleted
from convo.events import Delta
from convo.http.credentials import Credentials
from convo.http.idempotency import (
    KEY_HEADER,
    Refuse,
    check_result_exists,
    mark_replayed,
    store_error,
    stored_response,
)
from convo.http.one_thread import EVENT_LOOP, Render, WaitingResponse
from convo.models import IdempotencyRecord, Turn, TurnRequest
from convo.turns import AlreadyProcessed, Claim, IdempotencyKey, Outcome, TurnLog, TurnResult

R = TypeVar("R", bound=HttpResponseBase)
T = TypeVar("T")

EVENT_STREAM, HEARTBEAT = "text/event-stream", b": hb\n\n"
# Middleware compresses neither what must arrive piece by piece nor what it can't see yet.
STREAM_HEADERS = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "Content-Encoding": "identity",
}
WHOLE_HEADERS = {"Content-Type": "application/json", "Content-Encoding": "identity"}


@dataclass(kw_only=True)
class Reply(ABC):
    """The reply of one turn to one request, in the form of one surface.

    It is rendered whole, or as events: the first ones, those of each batch of deltas, and the last ones.
    """

    turn: Turn
    is_streamed: bool = False
    # The client of a background turn gets `queued()` at once, unless it asked for events. The turn does not
    # depend on it.
    is_background: bool = False
    stops_on_disconnect: bool = True
    # If true, wait until the model server accepts the request, so that an earlier failure is an HTTP error
    # even for a stream.
    waits_for_model: ClassVar[bool] = True

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every response with this reply."""
        return {}

    def queued(self) -> Response:
        """Render a turn in the background that has just begun."""
        raise NotImplementedError

    @abstractmethod
    def whole(self, ending: Outcome) -> Response:
        """Render the reply at its end, or raise the failure that `failure` then renders."""

    @abstractmethod
    def failure(self, error: ConvoError) -> Response:
        """Render a failure of the turn before any of its reply was sent."""

    @abstractmethod
    async def first_events(self) -> bytes: ...

    @abstractmethod
    def delta_events(self, deltas: Sequence[Delta]) -> bytes: ...

    @abstractmethod
    def last_events(self, ending: Outcome) -> bytes: ...

    @abstractmethod
    def access_error(self, error: NotAuthenticated) -> bytes:
        """Render the error for a client whose credentials have ended. It is not an event of the turn."""


# Waits for something in the log of a turn that has just been started.
Wait = Callable[[TurnLog], Awaitable[None]]

# Makes the reply of a turn. For a turn that an earlier request claimed, the request is None.
ReplyOf = Callable[[Turn, TurnRequest | None], Reply]


def answer(
    request: Request,
    key: IdempotencyKey | None,
    begin: Callable[[IdempotencyKey | None], Claim],
    reply_of: ReplyOf,
    refuse: Refuse,
) -> HttpResponseBase:
    """Claim a turn with `begin` and return its reply, or replay that to an earlier request with the same key.

    `refuse` renders errors that are raised before there is a turn.
    """
    try:
        try:
            claim = begin(key)
        except ConvoError as error:
            # This reserves the key as well, so it may raise AlreadyProcessed, too.
            return store_error(key, error, refuse)
    except AlreadyProcessed as processed:
        return mark_replayed(_replay(request._request, processed.row, reply_of))
    reply = reply_of(claim.turn, claim.request)
    return _with_headers(_start_and_reply(request, claim, reply), reply)


def follow(request: HttpRequest, reply: Reply) -> StreamingHttpResponse:
    """Stream the events of a turn, in whichever process it runs or ran."""
    database.close_connections()
    return StreamingHttpResponse(_events(reply, Credentials(request)), headers=STREAM_HEADERS)


def start_turn(request: HttpRequest, claim: Claim, wait: Wait | None = None) -> TurnLog:
    """Start the turn, detached from this request, or run it to its end if the event loop is the request's.

    Then wait in this thread as `wait` does.
    """
    log = TurnLog()
    if loop := _event_loop(request):
        turns.start_from_thread(loop, claim, log)
    # No database connection is held while the model works (docs/decisions/0001).
    database.close_connections()

    async def start_and_wait() -> None:
        if not loop:
            task = turns.start(claim, log)
            if not isinstance(request, ASGIRequest):
                await task
        if wait:
            await wait(log)

    if wait or not loop:
        async_to_sync(start_and_wait)()
    return log


def wait_for_result(request: HttpRequest, claim: Claim) -> TurnResult:
    """Start the turn, wait for its end in this thread, and return its result or raise its failure."""
    credentials = Credentials(request)

    async def wait(log: TurnLog) -> None:
        with credentials.reading(log) as reader:
            await reader.wait_until_ended()

    return result_or_raise(_ending(start_turn(request, claim, wait)))


def result_or_raise(ending: Outcome) -> TurnResult:
    """Return the result of a turn, or raise the failure that kept the reply from being complete."""
    if isinstance(ending, ConvoError):
        raise ending
    if failure := ending.failure:
        raise failure
    return ending


def _start_and_reply(request: Request, claim: Claim, reply: Reply) -> HttpResponseBase:
    django_request = request._request
    if reply.is_background and not reply.is_streamed:
        start_turn(django_request, claim)
        return reply.queued()
    credentials, stops = Credentials(django_request), reply.stops_on_disconnect

    async def wait(log: TurnLog) -> None:
        with credentials.reading(log, stops=stops) as reader:
            if reply.waits_for_model:
                await reader.wait_until_begun()
                if log.ending and not log.deltas:
                    result_or_raise(log.ending)
            if not reply.is_streamed:
                await reader.wait_until_ended()

    # A page is rendered inside of the middleware that its scripts and forms need, so its thread waits.
    waits_here = _event_loop(django_request) is None or request.accepted_renderer.media_type == "text/html"
    try:
        log = start_turn(django_request, claim, wait if waits_here else None)
    except ConvoError as error:
        return reply.failure(error)
    events = _events(reply, credentials, log, stops=stops) if reply.is_streamed else ()

    async def wait_to_render() -> Render | None:
        try:
            await wait(log)
        except ConvoError as error:
            return partial(_render, request, reply.failure, error)
        return None if reply.is_streamed else partial(_render, request, partial(_whole, reply), _ending(log))

    if not waits_here:
        headers = STREAM_HEADERS if reply.is_streamed else WHOLE_HEADERS
        response: StreamingHttpResponse = WaitingResponse(django_request, wait_to_render, events, headers)
    elif reply.is_streamed:
        response = StreamingHttpResponse(events, headers=STREAM_HEADERS)
    else:
        return _whole(reply, _ending(log))
    if stops:
        # A reply that nobody began to wait for can't stop the turn.
        closers: list[Callable[[], object]] = response._resource_closers  # type: ignore[attr-defined]
        closers.append(partial(_stop_unless_ended, django_request, log))
    return response


def _event_loop(request: HttpRequest) -> asyncio.AbstractEventLoop | None:
    """Return the event loop to which the thread of this request need not switch itself."""
    scope: Mapping[str, Any] = getattr(request, "scope", {})
    return scope.get(EVENT_LOOP)


def _stop_unless_ended(request: HttpRequest, log: TurnLog) -> None:
    async def stop() -> None:
        log.stop()

    if log.ending is not None:
        return
    if loop := _event_loop(request):
        # The turn has its `stop` by then: its start was scheduled on the same event loop before.
        loop.call_soon_threadsafe(lambda: log.stop())
    else:
        async_to_sync(stop)()


def _whole(reply: Reply, ending: Outcome) -> Response:
    try:
        return reply.whole(ending)
    except ConvoError as error:
        return reply.failure(error)


def _render(request: Request, render: Callable[[T], Response], value: T) -> HttpResponse:
    """Render a response as the view does with those that it returns."""
    view = request.parser_context["view"]
    try:
        response = render(value)
    except Exception as error:
        response = view.handle_exception(error)
    final: Response = view.finalize_response(request, response)
    final.render()
    return final


def _ending(log: TurnLog) -> Outcome:
    assert log.ending is not None  # its end was waited for
    return log.ending


def _replay(request: HttpRequest, row: IdempotencyRecord, reply_of: ReplyOf) -> HttpResponseBase:
    """Reply as to the earlier request with this key: with its error, or with its turn as it is now."""
    turn = row.turn
    if turn is None or row.status == ResultDeleted.status:
        return stored_response(row)
    reply = reply_of(turn, None)
    check_result_exists(row)
    # `reply_of` has loaded the session, which async code can't. With storage `none` no delta is stored.
    if reply.is_streamed and turn.session.storage != turn.session.Storage.NONE:
        return _with_headers(follow(request, reply), reply)
    if not (turn.has_ended or reply.is_background):
        raise IdempotencyKeyInUse(param=KEY_HEADER, turn={"id": str(turn.key), "number": turn.number})
    return _with_headers(_whole(reply, turns.result_of(turn)), reply)


def _with_headers(response: R, reply: Reply) -> R:
    for name, value in reply.headers.items():
        response[name] = value
    return response


async def _events(
    reply: Reply, credentials: Credentials, log: TurnLog | None = None, *, stops: bool = False
) -> AsyncIterator[bytes]:
    """Yield the events of a turn as they come, with heartbeats between them.

    Without the log of this process, the turn is followed in whichever process it runs or ran. With `stops`,
    the turn is stopped if the client disconnects before its end.
    """
    log = log or await turns.follow(reply.turn)
    try:
        with credentials.reading(log, stops=stops) as reader:
            yield await reply.first_events()
            async for deltas in reader.batches(heartbeat_seconds=conf().sse_heartbeat_seconds):
                yield reply.delta_events(deltas) if deltas else HEARTBEAT
    except NotAuthenticated as error:
        yield reply.access_error(error)
        return
    yield reply.last_events(await turns.wait_for_ending(reply.turn, log))
