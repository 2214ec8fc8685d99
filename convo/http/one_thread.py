"""Django's ASGI application, with each request served by one thread (docs/decisions/0016)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, Any

from asgiref.sync import SyncToAsync, sync_to_async
from django.core import signals
from django.core.asgi import get_asgi_application
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.exception import response_for_exception
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix
from django.utils.log import log_response

from convo import database
from convo.conf import conf


def django_application() -> ASGIHandler:
    """Return the application with `REQUEST_THREADS` threads; with none of them, Django's own."""
    threads = conf().request_threads
    return OneThreadHandler(threads) if threads else get_asgi_application()


# In the scope of a request: a function that says whether its client has disconnected, and the event loop on
# which a WaitingResponse waits.
HAS_LEFT, EVENT_LOOP = "convo.has_left", "convo.event_loop"
HEALTH_PATHS = {"/healthz", "/readyz"}
# The response of a request while it waits or streams.
Streams = dict[int, HttpResponseBase]
# Makes a response, in a thread.
Render = Callable[[], HttpResponse]


class WaitingResponse(StreamingHttpResponse):
    """A response that is known after a wait on the event loop, so that it holds no thread meanwhile.

    `wait` returns None if this response, a stream, is to be sent. Otherwise it returns a function that makes
    the response to send in its place, and runs in a thread again. That gets the headers that middleware adds.
    """

    def __init__(
        self,
        request: HttpRequest,
        wait: Callable[[], Awaitable[Render | None]],
        events: Any,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(events, headers=dict(headers))
        self.request, self.wait, self._first_headers = request, wait, headers

    @property
    def added_headers(self) -> dict[str, str]:
        return {name: value for name, value in self.items() if self._first_headers.get(name) != value}


class OneThreadHandler(ASGIHandler):
    """An ASGIHandler that runs middleware, view and signals of a request in one thread of a pool.

    Django's own switches threads for each sync piece, 16 times a request with our middleware, and starts two
    new threads. Only the body is received, and the response sent, on the event loop, so neither a slow
    upload nor a stream holds a thread.
    """

    def __init__(self, threads: int) -> None:
        super().__init__()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="convo-request")
        # Probes are answered even while all other threads wait for a model.
        health_pool = ThreadPoolExecutor(2, thread_name_prefix="convo-health")
        # asgiref runs the thread in a copy of this request's context, and has its `async_to_sync` use this
        # event loop and end when the request is cancelled.
        self._respond_in_thread, self._answer_probe = (
            sync_to_async(self._respond, thread_sensitive=False, executor=threads)
            for threads in (pool, health_pool)
        )
        self._render_in_thread = sync_to_async(_render, thread_sensitive=False, executor=pool)

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def handle(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve the request. If the client disconnects, cancel what its view or its stream waits for."""
        try:
            body_file = await self.read_body(receive)
        except RequestAborted:
            return
        listening = asyncio.create_task(self.listen_for_disconnect(receive))
        scope[HAS_LEFT], scope[EVENT_LOOP] = listening.done, asyncio.get_running_loop()
        streams: Streams = {}
        responding = asyncio.create_task(self._respond_and_send(scope, body_file, send, streams))
        await asyncio.wait((listening, responding), return_when=asyncio.FIRST_COMPLETED)
        for task in (listening, responding):
            task.cancel()
        with suppress(asyncio.CancelledError, RequestAborted):
            await listening
        try:
            with suppress(asyncio.CancelledError):
                await responding
        finally:
            if response := streams.pop(0, None):
                await self._close(response)

    async def _close(self, response: HttpResponseBase) -> None:
        # A stream's own `sync_to_async` opens connections in another thread, and only that can close them.
        if SyncToAsync.thread_sensitive_context.get(None) in SyncToAsync.context_to_thread_executor:
            await sync_to_async(database.close_connections)()
        _close(response)

    async def _respond_and_send(
        self, scope: dict[str, Any], body_file: IO[bytes], send: Any, streams: Streams
    ) -> None:
        respond = self._answer_probe if scope["path"] in HEALTH_PATHS else self._respond_in_thread
        response = await respond(scope, body_file, streams)
        if isinstance(response, WaitingResponse) and (render := await response.wait()):
            response = await self._render_in_thread(response, render)
        await self.send_response(response, send)

    def _respond(self, scope: dict[str, Any], body_file: IO[bytes], streams: Streams) -> HttpResponseBase:
        """Return the response, closed unless it is put into `streams`; keep no connection to a database."""
        try:
            response = self._response_to(scope, body_file)
        except BaseException:
            # The client has disconnected, so there is no response whose end is the end of the request.
            body_file.close()
            signals.request_finished.send(sender=self.__class__)
            raise
        if isinstance(response, WaitingResponse) or getattr(response, "is_async", False):
            database.close_connections()
            # The end of the stream takes no thread: what receives this signal may use the database.
            signals.request_finished.send(sender=self.__class__)
            streams[0] = response
            # A cancelled request doesn't wait for its thread. The one of the two that comes last closes it.
            if scope[HAS_LEFT]() and streams.pop(0, None):
                _close(response)
            return response
        try:
            _read_sync_content(response)
        finally:
            response.close()
        return response

    def _response_to(self, scope: dict[str, Any], body_file: IO[bytes]) -> HttpResponseBase:
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refusal = self.create_request(scope, body_file)
        if refusal is not None:
            body_file.close()
            return refusal
        response = self.get_response(request)  # type: ignore[arg-type]
        response._handler_class = self.__class__  # type: ignore[attr-defined]
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        return response


def _read_sync_content(response: HttpResponseBase) -> None:
    """Read what a sync iterator yields, such as a static file. Django does too, but in another thread."""
    if isinstance(response, StreamingHttpResponse):
        response.streaming_content = _iterate(list(response))


def _render(waiting: WaitingResponse, render: Render) -> HttpResponse:
    try:
        response = render()
    except Exception as error:
        response = response_for_exception(waiting.request, error)
    finally:
        database.close_connections()
    for name, value in waiting.added_headers.items():
        response[name] = value
    response.headers.setdefault("Content-Length", str(len(response.content)))
    response.cookies.update(waiting.cookies)
    if response.status_code >= 400:
        phrase, path = response.reason_phrase, waiting.request.path
        log_response("%s: %s", phrase, path, response=response, request=waiting.request)
    return response


def _close(response: HttpResponseBase) -> None:
    """Close a response, of whose end the receivers of `request_finished` know already."""
    for close in response._resource_closers:  # type: ignore[attr-defined]
        with suppress(Exception):
            close()
    response.closed = True


async def _iterate(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
