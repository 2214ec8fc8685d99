"""A model server that costs little: replies of 50 chunks whose bytes are made once.

`python -P benchmarks/upstream.py PORT MILLISECONDS` runs it, as a file, so that it imports nothing of Django.
The model `chunks` sends all chunks at once, each in a packet of its own; `paced` sends one every so often.
"""

import asyncio
import json
import os
import re
import resource
import sys
from contextlib import suppress
from functools import partial
from typing import Any, cast

import uvloop

CHUNKS = 50
MODEL = re.compile(rb'"model":\s*"(chunks|paced)"')
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
USAGE = {"prompt_tokens": 9, "completion_tokens": CHUNKS, "total_tokens": 9 + CHUNKS}


def frame(data: bytes) -> bytes:
    """Return one server-sent event as a chunk of HTTP."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def delta(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish_reason}
    return completion(choices=[choice])


def completion(**fields: Any) -> bytes:
    defaults = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "chunks"}
    return frame(json.dumps({**defaults, **fields}).encode())


TEXTS = [f"word{number} " for number in range(1, CHUNKS + 1)]
WORDS = [delta(text) for text in TEXTS]
END = delta("", "stop")
COUNTS = completion(choices=[], usage=USAGE)
DONE = frame(b"[DONE]") + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client's connection, which asks again after each reply."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.received = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports inherit from none of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.file: int = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        size = int(length[1]) if length else 0
        if separator and len(body) >= size:
            self.received = body[size:]
            self.answer(body[:size])

    def answer(self, body: bytes) -> None:
        model = MODEL.search(body)
        if not model or b'"stream"' not in body:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        self.ending = [END, COUNTS, DONE] if b'"include_usage"' in body else [END, DONE]
        self.write_now(HEAD)
        if model[1] == b"paced":
            self.write_paced(0, asyncio.get_running_loop().time())
        else:
            for part in (*WORDS, *self.ending):
                self.write_now(part)

    def write_now(self, part: bytes) -> None:
        """Send this part in a packet of its own; uvloop would join all that is written in one turn."""
        sent_bytes = 0
        if not self.transport.get_write_buffer_size():
            with suppress(BlockingIOError):
                sent_bytes = os.write(self.file, part)
        if sent_bytes < len(part):
            self.transport.write(part[sent_bytes:])

    def write_paced(self, number: int, due: float) -> None:
        """Write a chunk at its time: a late one doesn't delay those after it."""
        if self.transport.is_closing():
            return
        self.transport.write(WORDS[number])
        if number + 1 == CHUNKS:
            self.transport.writelines(self.ending)
            return
        due += self.pause
        self.timer = asyncio.get_running_loop().call_at(due, self.write_paced, number + 1, due)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()


def raise_file_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(port: int, pause: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Connection, pause), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    raise_file_limit()
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]) / 1000))
