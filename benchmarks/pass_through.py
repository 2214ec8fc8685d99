"""A byte pass-through: an ASGI application that hands each chunk of the model server on, and stores nothing.

It is the floor of a proxy in Python, and runs as Convo does, under Uvicorn with one worker. At `/joined` it
hands on what one read brings, which is several chunks in one when they come at once.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
HEADERS = [(b"content-type", b"text/event-stream")]
_session: list[aiohttp.ClientSession] = []


def session() -> aiohttp.ClientSession:
    if not _session:
        _session.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    return _session[0]


async def each_chunk(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    parts = b""
    async for part, is_end in reply.content.iter_chunks():
        parts += part
        if is_end and parts:
            yield parts
            parts = b""


async def body_of(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body"):
            return body


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    body = await body_of(receive)
    async with session().post(url, data=body, headers={"content-type": "application/json"}) as reply:
        await send({"type": "http.response.start", "status": reply.status, "headers": HEADERS})
        chunks = reply.content.iter_any() if scope["path"] == "/joined" else each_chunk(reply)
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
