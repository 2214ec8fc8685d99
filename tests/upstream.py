"""The suite's own OpenAI server, spoken to over real sockets; `tests/scenarios.py` says what it can do.

`POST /v1/chat/completions` follows the scenario that the model names, `POST /v1/embeddings` gives texts that
share words vectors near each other, `GET /v1/models` lists the scenarios.
By hand: `python -m tests.upstream PORT`.
"""

import array
import asyncio
import base64
import json
import math
import re
import sys
import threading
import zlib
from typing import Any, Self

from tests.scenarios import SCENARIOS, Heard, Reply, answer


class Upstream:
    """A running server: `url` is what OPENAI_BASE_URL is set to, `heard` is every request body so far."""

    def __init__(self, port: int = 0) -> None:
        self.active = 0
        self.busy, self.idle = threading.Event(), threading.Event()
        self.connections: set[asyncio.Transport] = set()
        self._heard: list[Heard] = []
        self._released = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        listening = self._loop.create_server(lambda: Connection(self), "127.0.0.1", port, backlog=1000)
        self._server = self._loop.run_until_complete(listening)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream", daemon=True)
        self._thread.start()

    @property
    def heard(self) -> list[Heard]:
        return list(self._heard)

    @property
    def last(self) -> Heard:
        return self._heard[-1]

    @property
    def headers(self) -> dict[str, str]:
        """The last request's headers, their names in lower case."""
        return self.last.headers

    def forget(self) -> None:
        """Start afresh: nothing was heard, and `hold` holds again."""
        self._heard.clear()
        self.hold()

    def hold(self) -> None:
        self._loop.call_soon_threadsafe(self._released.clear)

    def release(self) -> None:
        """Let replies of the model `hold` end, now and until the next `hold()` or `forget()`."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def answer(self, heard: Heard, transport: asyncio.Transport) -> None:
        self._count(+1)
        reply = Reply(heard, transport, self._released)
        try:
            await self._route(reply)
            reply.chunk(b"")
        finally:
            self._count(-1)

    async def _route(self, reply: Reply) -> None:
        if reply.heard.path == "/v1/models":
            return reply.whole(
                {"object": "list", "data": [{"id": name, "object": "model"} for name in SCENARIOS]}
            )
        self._heard.append(reply.heard)
        if reply.heard.path == "/v1/embeddings":
            return reply.whole(embeddings(reply.heard))
        if reply.heard.path != "/v1/chat/completions":
            return reply.whole({"error": {"message": "There is nothing at this path."}}, status=404)
        return await answer(reply)

    def _count(self, change: int) -> None:
        self.active += change
        now, before = (self.busy, self.idle) if self.active else (self.idle, self.busy)
        before.clear()
        now.set()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for connection in self.connections:
            connection.abort()
        answering = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*answering, return_exceptions=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class Connection(asyncio.Protocol):
    """One client's socket: reads requests one after the other, stops answering when the client leaves."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.received = b""
        self.answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.upstream.connections.add(transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if found and len(body) >= length:
            self.received = body[length:]
            heard = Heard(json.loads(body[:length] or b"{}"))
            heard.path, heard.headers = lines[0].split(" ")[1], headers
            heard.port = self.transport.get_extra_info("peername")[1]
            self.answering = asyncio.create_task(self.upstream.answer(heard, self.transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self.upstream.connections.discard(self.transport)
        if self.answering:
            self.answering.cancel()


def embeddings(heard: Heard) -> dict[str, Any]:
    texts = [heard["input"]] if isinstance(heard["input"], str) else heard["input"]
    as_base64 = heard.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": packed(vector(text)) if as_base64 else vector(text),
        }
        for index, text in enumerate(texts)
    ]
    words = sum(len(text.split()) for text in texts)
    counts = {"prompt_tokens": words, "total_tokens": words}
    return {"object": "list", "model": heard["model"], "data": data, "usage": counts}


def vector(text: str, dimensions: int = 16) -> list[float]:
    """Each word counts in a place of its own choice, so that texts which share words are near each other."""
    numbers = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        numbers[zlib.crc32(word.encode()) % dimensions] += 1
    length = math.hypot(*numbers) or 1.0
    return [number / length for number in numbers]


def packed(numbers: list[float]) -> str:
    return base64.b64encode(array.array("f", numbers)).decode()


if __name__ == "__main__":
    with Upstream(int(sys.argv[1])) as running:
        print(running.url, flush=True)
        threading.Event().wait()
