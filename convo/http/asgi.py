"""The ASGI entry point: the server's lifespan, the limit on request bodies, and the refusal of WebSockets."""

import asyncio
import json
import signal
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

from django.utils.http import parse_header_parameters

from convo import heap, jobs, request_context, turns
from convo.conf import check_processes, conf
from convo.errors import BodyTooLarge, ConvoError, UnsupportedMediaType, UnsupportedValue
from convo.http.errors import envelope

# After a request with a larger body, its memory is freed at once and given back to the system.
LARGE_BYTES = 2_000_000

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[..., Awaitable[None]]


class ConvoASGI:
    """Django's ASGI application, with the lifespan and the limit on bodies that it lacks."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _run_lifespan(receive, send)
        elif scope["type"] == "websocket" or _is_websocket_request(scope):
            await _refuse_websocket(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > conf().max_body:
            await _refuse(scope, send, _body_too_large())
        elif not _has_utf_8_body(scope):
            await _refuse(
                scope, send, UnsupportedMediaType("Bodies are read as UTF-8. Leave the charset out.")
            )
        elif b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            await self._serve_chunked(scope, receive, send)
        else:
            await self._call_application(scope, receive, send, int(length) if length.isdigit() else 0)

    async def _call_application(self, scope: Scope, receive: Receive, send: Send, size: int) -> None:
        await self.application(scope, receive, send)
        if size > LARGE_BYTES:
            # Requests and serializers of Django REST framework are reference cycles, and they hold the body.
            await asyncio.to_thread(heap.collect_and_trim)

    async def _serve_chunked(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Django REST framework takes a body without a length for an empty one, so it is read here.
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > conf().max_body:
                await _refuse(scope, send, _body_too_large())
                return
            if not message.get("more_body"):
                break
        headers = [pair for pair in scope["headers"] if pair[0] != b"transfer-encoding"]
        scope["headers"] = [*headers, (b"content-length", str(len(body)).encode())]
        messages = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def receive_body() -> Message:
            return next(messages, None) or await receive()

        await self._call_application(scope, receive_body, send, len(body))


def _has_utf_8_body(scope: Scope) -> bool:
    """Return whether the body is UTF-8. Django would decode the request with any codec that is named."""
    content_type = b",".join(value for name, value in scope["headers"] if name == b"content-type")
    try:
        charset = parse_header_parameters(content_type.decode("latin-1"))[1].get("charset", "utf-8")
    except (ValueError, LookupError):
        return False
    return charset.lower() in {"utf-8", "utf8"}


def _is_websocket_request(scope: Scope) -> bool:
    # Servers that speak only HTTP, such as that of `manage.py serve`, pass the upgrade request on.
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers.get(b"upgrade", b"").lower() == b"websocket"


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    error = UnsupportedValue(
        "WebSocket connections are not supported here. In place of `responses.connect()`, "
        "call `responses.create()`, with `stream=True` for events."
    )
    if scope["type"] == "http":
        await _refuse(scope, send, error)
        return
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await _refuse(scope, send, error, message_type="websocket.http.response")
    else:
        # The server then answers 403 by itself, and there is no way to send a reason.
        await send({"type": "websocket.close"})


def _body_too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than the {conf().max_body} bytes that this server accepts.")


async def _refuse(
    scope: Scope, send: Send, error: ConvoError, *, message_type: str = "http.response"
) -> None:
    client_id = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    headers = [
        (b"content-type", b"application/json"),
        (b"connection", b"close"),
        (b"x-request-id", request_context.start_request(client_id).encode()),
    ]
    await send({"type": f"{message_type}.start", "status": error.status, "headers": headers})
    await send({"type": f"{message_type}.body", "body": json.dumps(envelope(error)).encode()})


async def _run_lifespan(receive: Receive, send: Send) -> None:
    """Run the background work, with its sweeps, from the start of the server to its shutdown."""
    await receive()
    if problems := check_processes():
        await send({"type": "lifespan.startup.failed", "message": str(problems[0].msg)})
        return
    turns.register_server_loop()
    worker = jobs.Worker(jobs.Supervisor())
    _call_on_termination(turns.shut_down, worker.begin_shutdown)
    # With CONVO_WORK_THREADS=0 this process leaves all background work to other processes.
    if conf().work_threads:
        worker.start()
    heap.freeze()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.to_thread(worker.stop)
    await send({"type": "lifespan.shutdown.complete"})


def _call_on_termination(*callbacks: Callable[[], None]) -> None:
    """End the turns at SIGTERM and Ctrl-C, or the server would wait for its streams for minutes."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    server_handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle_signal(number: int, frame: FrameType | None) -> None:
        for callback in callbacks:
            loop.call_soon_threadsafe(callback)
        if callable(server_handler := server_handlers[signal.Signals(number)]):
            server_handler(number, frame)

    for number in server_handlers:
        signal.signal(number, handle_signal)
