"""A load generator that costs little: raw sockets on uvloop, in a process of its own.

`python -P benchmarks/load.py` reads a plan in JSON from standard input and prints what came of it. Each
client has one connection and sends its next request when the response to the last one is complete, but no
sooner than the plan's rate allows. It sends the same request again and again, or, where the plan has
sessions, holds a conversation: all the requests in their order, in a session that nobody used before.
"""

import asyncio
import json
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, cast

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
LAST_CHUNK = b"0\r\n\r\n"
# Without a buffer, Python loses what it prints beyond the 64 kB that a pipe takes at once.
SAMPLE = 2_000
# A request of a conversation has this in place of the id of its session.
SESSION = "{session}"


@dataclass
class Run:
    """The part of the plan that the clients share, and the measurements."""

    seconds: float
    count: int
    first: bytes
    end: bytes
    # Seconds between two requests of a client.
    interval: float
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    until: float = 0

    def is_over(self) -> bool:
        return self.sent >= self.count or time.perf_counter() >= self.until


class Client(asyncio.Protocol):
    """One client: a connection, and the requests that it sends."""

    def __init__(self, run: Run, requests: Iterator[bytes], due: float) -> None:
        self.run, self.requests, self.due = run, requests, due
        self.closed = asyncio.get_running_loop().create_future()
        self.is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports inherit from none of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def send_when_due(self) -> None:
        """Send the next request at its time; a late one doesn't delay those after it."""
        delay = self.due - time.perf_counter() if self.run.interval else 0
        self.due += self.run.interval
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, self.send)
        else:
            self.send()

    def send(self) -> None:
        request = b"" if self.run.is_over() else next(self.requests, None)
        if not request:
            self.run.failures["no session left"] += request is None
            self.transport.close()
            return
        self.run.sent += 1
        self.received = bytearray()
        self.first = 0.0
        self.head_size = self.size = -1
        self.is_waiting = True
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.head_size < 0:
            self.read_head()
        if not self.first and self.head_size >= 0 and self.run.first in self.received:
            self.first = time.perf_counter()
        if self.head_size >= 0 and self.is_complete():
            self.record()
            self.send_when_due()

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
            self.run.latencies.append(now - self.sent_at)
            self.run.firsts.append((self.first or now) - self.sent_at)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_waiting:
            self.run.failures["connection lost"] += 1
            self.is_waiting = False
        self.closed.set_result(None)


async def execute(plan: dict[str, Any]) -> dict[str, Any]:
    """Open all connections first, then let all clients begin at once."""
    interval = plan["clients"] / plan["rate"] if plan["rate"] else 0.0
    run = Run(plan["seconds"], plan["count"], plan["first"].encode(), plan["end"].encode(), interval)
    loop, sessions = asyncio.get_running_loop(), iter(plan["sessions"])
    clients: list[Client] = []
    for number in range(plan["clients"]):
        requests = conversations(plan, sessions) if plan["sessions"] else one_request(plan, number)
        create = partial(Client, run, requests, number / plan["clients"] * interval)
        _, client = await loop.create_connection(create, plan["host"], plan["port"])
        clients.append(client)
    start, cpu_before = time.perf_counter(), time.process_time()
    run.until = start + run.seconds
    for client in clients:
        client.due += start
        client.send_when_due()
    await asyncio.wait([client.closed for client in clients], timeout=plan["patience"])
    run.failures["not ended"] += sum(client.is_waiting for client in clients)
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu_before,
        "answered": len(run.latencies),
        "latencies": sample(run.latencies),
        "firsts": sample(run.firsts),
        "failures": +run.failures,
    }


def one_request(plan: dict[str, Any], number: int) -> Iterator[bytes]:
    return repeat(plan["requests"][number % len(plan["requests"])].encode())


def conversations(plan: dict[str, Any], sessions: Iterator[str]) -> Iterator[bytes]:
    """Yield all requests for one session after the other; clients share the sessions."""
    for session in sessions:
        for text in plan["requests"]:
            yield text.replace(SESSION, session, 1).encode()


def sample(values: list[float]) -> list[float]:
    """Return these values, or so many of them, at equal distances in their order, that a pipe takes them."""
    step = len(values) / SAMPLE
    ordered = sorted(values)
    sampled_values = ordered if step <= 1 else [ordered[int((place + 0.5) * step)] for place in range(SAMPLE)]
    return [round(value, 7) for value in sampled_values]


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(uvloop.run(execute(json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
