"""The edge of the server: what happens at its start and end, and how much of a body it reads."""

import asyncio
import json
import signal
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

from django.utils.http import parse_header_parameters

from convo import jobs, memory, search, turns
from convo.conf import check_processes, conf
from convo.errors import ConvoError, TooLarge, UnsupportedMedia
from convo.http.errors import envelope
from convo.http.openai_api.ids import request_id

# Imported so that what the worker does is registered, where each of it is written.
WORK = [memory, search, turns]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[..., Awaitable[None]]


class Edge:
    """Django's ASGI application with a lifespan and a limit on bodies, both of which it lacks."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = dict(scope["headers"])
        length = names.get(b"content-length", b"")
        if length.isdigit() and int(length) > conf().max_body:
            await _refuse(send, _too_large())
        elif not _is_utf_8(scope):
            await _refuse(send, UnsupportedMedia("Bodies are read as UTF-8. Leave the charset out."))
        elif b"chunked" in names.get(b"transfer-encoding", b"").lower():
            await self._serve_chunked(scope, receive, send)
        else:
            await self.application(scope, receive, send)

    async def _serve_chunked(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Django REST framework takes a body without a length for an empty one: read it, and say its length.
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > conf().max_body:
                await _refuse(send, _too_large())
                return
            if not message.get("more_body"):
                break
        known = [pair for pair in scope["headers"] if pair[0] != b"transfer-encoding"]
        scope["headers"] = [*known, (b"content-length", str(len(body)).encode())]
        messages = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def replay() -> Message:
            return next(messages, None) or await receive()

        await self.application(scope, replay, send)


def _is_utf_8(scope: Scope) -> bool:
    """Does the content type name no other charset? Django would read even the address in any codec named."""
    named = b",".join(value for name, value in scope["headers"] if name == b"content-type")
    try:
        charset = parse_header_parameters(named.decode("latin-1"))[1].get("charset", "utf-8")
    except (ValueError, LookupError):
        return False
    return charset.lower() in {"utf-8", "utf8"}


def _too_large() -> TooLarge:
    return TooLarge(f"The body is larger than the {conf().max_body} bytes that this server accepts.")


async def _refuse(send: Send, error: ConvoError) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"connection", b"close"),
        (b"x-request-id", request_id().encode()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(envelope(error)).encode()})


async def _live(receive: Receive, send: Send) -> None:
    """Between start and end of the server, work in the background, and sweep now and then."""
    await receive()
    if wrong := check_processes():
        await send({"type": "lifespan.startup.failed", "message": str(wrong[0].msg)})
        return
    turns.serve_here()
    worker = jobs.Worker()
    _end_first(turns.shut_down, worker.end)
    worker.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.to_thread(worker.stop)
    await send({"type": "lifespan.shutdown.complete"})


def _end_first(*endings: Callable[[], None]) -> None:
    """Let SIGTERM and Ctrl-C end the turns: a server that waits for its streams would wait for minutes."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    servers_own = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def end(number: int, frame: FrameType | None) -> None:
        for ending in endings:
            loop.call_soon_threadsafe(ending)
        then = servers_own[signal.Signals(number)]
        if callable(then):
            then(number, frame)

    for number in servers_own:
        signal.signal(number, end)
