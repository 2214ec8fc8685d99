"""A load generator that costs little: raw sockets on uvloop, in a process of its own.

`python -P benchmarks/load.py` reads a plan in JSON from standard input and prints what came of it. Each
client has one connection and sends its next request when the response to the last one is complete.
"""

import asyncio
import json
import re
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
LAST_CHUNK = b"0\r\n\r\n"
# Without a buffer, Python loses what it prints beyond the 64 kB that a pipe takes at once.
SAMPLE = 2_000


@dataclass
class Run:
    """What the clients share: the plan, and what has been measured."""

    requests: list[bytes]
    seconds: float
    count: int
    first: bytes
    end: bytes
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    until: float = 0

    def is_over(self) -> bool:
        return self.sent >= self.count or time.perf_counter() >= self.until


class Client(asyncio.Protocol):
    """One client: a connection, and the request that it sends again and again."""

    def __init__(self, run: Run, request: bytes) -> None:
        self.run, self.request = run, request
        self.ended = asyncio.get_running_loop().create_future()
        self.is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports inherit from none of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        if self.run.is_over():
            self.transport.close()
            return
        self.run.sent += 1
        self.received = bytearray()
        self.first = 0.0
        self.head_size = self.size = -1
        self.is_waiting = True
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.head_size < 0:
            self.read_head()
        if not self.first and self.head_size >= 0 and self.run.first in self.received:
            self.first = time.perf_counter()
        if self.head_size >= 0 and self.is_complete():
            self.record()
            self.send()

    def read_head(self) -> None:
        end = self.received.find(b"\r\n\r\n")
        if end >= 0:
            self.head_size = end + 4
            length = LENGTH.search(self.received, 0, end + 2)
            self.size = int(length[1]) if length else -1

    def is_complete(self) -> bool:
        if self.size >= 0:
            return len(self.received) - self.head_size >= self.size
        return self.received.endswith(LAST_CHUNK)

    def record(self) -> None:
        now = time.perf_counter()
        self.is_waiting = False
        status = self.received[9:12].decode()
        if not status.startswith("2"):
            self.run.failures[status] += 1
        elif self.run.end not in self.received:
            self.run.failures["incomplete"] += 1
        else:
            self.run.latencies.append(now - self.began)
            self.run.firsts.append((self.first or now) - self.began)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_waiting:
            self.run.failures["connection lost"] += 1
            self.is_waiting = False
        self.ended.set_result(None)


async def execute(plan: dict[str, Any]) -> dict[str, Any]:
    """Open all connections first, then let all clients begin at once."""
    requests = [text.encode() for text in plan["requests"]]
    run = Run(requests, plan["seconds"], plan["count"], plan["first"].encode(), plan["end"].encode())
    loop = asyncio.get_running_loop()
    clients = []
    for number in range(plan["clients"]):
        _, client = await loop.create_connection(
            partial(Client, run, requests[number % len(requests)]), plan["host"], plan["port"]
        )
        clients.append(client)
    began, used = time.perf_counter(), time.process_time()
    run.until = began + run.seconds
    for client in clients:
        client.send()
    await asyncio.wait([client.ended for client in clients], timeout=plan["patience"])
    run.failures["not ended"] += sum(client.is_waiting for client in clients)
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - used,
        "answered": len(run.latencies),
        "latencies": sample(run.latencies),
        "firsts": sample(run.firsts),
        "failures": +run.failures,
    }


def sample(values: list[float]) -> list[float]:
    """Return these values, or so many of them, at equal distances in their order, that a pipe takes them."""
    step = len(values) / SAMPLE
    ordered = sorted(values)
    chosen = ordered if step <= 1 else [ordered[int((place + 0.5) * step)] for place in range(SAMPLE)]
    return [round(value, 7) for value in chosen]


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(uvloop.run(execute(json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
