"""Real servers, real sockets: words arrive while they are written, and a reader may leave at any time."""

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2
import pytest

from convo.models import Message, Turn
from tests.conftest import Serve
from tests.faults import events, wait_until
from tests.servers import Server, Standing, client_of
from tests.upstream import Upstream

READERS = 150
WAITING = 5


@contextmanager
def streaming(client: httpx2.Client, message: str = "hello") -> Iterator[httpx2.Response]:
    body = {"message": message, "stream": True}
    with client.stream("POST", "/api/v1/query/", json=body) as response:
        yield response


@pytest.mark.both_handlers
def test_the_first_word_arrives_before_the_last_is_written(
    share: Serve, alice_key: str, upstream: Upstream
) -> None:
    server = share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold")
    with client_of(server, alice_key) as client, streaming(client) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        arriving = events(response)
        assert next(arriving)[0] == "turn.started"
        first = next(arriving)
        assert first[0] == "delta"
        upstream.release()
        rest = list(arriving)
    assert [name for name, _ in rest][-2:] == ["usage", "turn.completed"]
    said = "".join(data["text"] for name, data in [first, *rest] if name == "delta")
    assert rest[-1][1]["message"]["content"] == said


@pytest.mark.both_handlers
def test_a_silent_stream_has_a_heartbeat(share: Serve, alice_key: str, upstream: Upstream) -> None:
    server = share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold", CONVO_SSE_HEARTBEAT_SECONDS="0.1")
    with client_of(server, alice_key) as client, streaming(client) as response:
        lines = []
        for line in response.iter_lines():
            lines.append(line)
            if line == ": hb":
                upstream.release()
    assert ": hb" in lines
    assert "event: turn.completed" in lines


@pytest.mark.both_handlers
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("leaves", ["before", "during", "after"])
def test_a_reader_that_leaves_takes_nothing_with_it(
    share: Serve, alice_key: str, upstream: Upstream, leaves: str, streamed: bool
) -> None:
    server = share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="slow-20")
    for number in range(20):
        _ask_and_leave(server, alice_key, f"question {number}", leaves=leaves, streamed=streamed)
    wait_until(lambda: Turn.objects.filter(status="complete").count() == 20)
    assert Message.objects.filter(role="assistant").exclude(content="").count() == 20


@pytest.mark.parametrize("path", ["/api/v1/query/", "/v1/chat/completions"])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_replies_that_wait_for_the_model_hold_no_thread(
    serve: Serve, alice_key: str, upstream: Upstream, path: str, streamed: bool
) -> None:
    server = serve(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="held", CONVO_REQUEST_THREADS="2")
    messages = [{"role": "user", "content": "hello"}]
    body = {"message": "hello"} if path == "/api/v1/query/" else {"messages": messages, "model": "held"}

    def wait_for_reply() -> httpx2.Response:
        with client_of(server, alice_key) as client:
            return client.post(path, json={**body, "stream": streamed})

    with ThreadPoolExecutor(WAITING) as threads:
        waiting = [threads.submit(wait_for_reply) for _ in range(WAITING)]
        try:
            wait_until(lambda: len(upstream.heard) == WAITING, seconds=10)
            with client_of(server, alice_key) as client:
                assert client.get("/api/v1/sessions/", timeout=10).status_code == 200
        finally:
            upstream.release()
        responses = [reply.result() for reply in waiting]
    assert [response.status_code for response in responses] == [200] * WAITING
    assert all("at last" in response.text for response in responses)
    assert all(response.headers["x-request-id"] for response in responses)


def _ask_and_leave(server: Server, key: str, message: str, *, leaves: str, streamed: bool) -> None:
    place = urlsplit(server.url)
    body = json.dumps({"message": message, "stream": streamed}).encode()
    head = (
        f"POST /api/v1/query/ HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((place.hostname, place.port)) as reader:
        reader.sendall(head.encode() + body)
        if leaves == "before":
            # As soon as the server has the question; nothing of the answer was read.
            wait_until(lambda: Message.objects.filter(content=message).exists())
        if leaves == "during" and streamed:
            seen = b""
            while b"event: delta" not in seen:
                seen += reader.recv(4096)
        if leaves == "during" and not streamed:
            wait_until(lambda: Turn.objects.filter(messages__content=message, model="slow-20").exists())
        if leaves == "after":
            seen = b""
            while not seen.endswith(b"0\r\n\r\n") and b'"message":{' not in seen:
                seen += reader.recv(65536)


@pytest.mark.both_handlers
@pytest.mark.postgres
def test_150_streams_at_once_finish_on_a_postgresql_with_60_connections(
    serve: Serve, standing: Standing, alice_key: str, upstream: Upstream
) -> None:
    standing.end()
    server = serve(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold")
    started = 0
    everybody = asyncio.Event()

    async def read(client: httpx2.AsyncClient, number: int) -> str:
        nonlocal started
        body = {"message": f"question {number}", "stream": True}
        last = ""
        async with client.stream("POST", "/api/v1/query/", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("event: "):
                    last = line.removeprefix("event: ")
                if line == "event: delta" and not everybody.is_set():
                    started += 1
                    if started == READERS:
                        everybody.set()
                    await everybody.wait()  # so that all 150 are open at the same time
                    upstream.release()
        return last

    async def read_all() -> list[str]:
        limits = httpx2.Limits(max_connections=READERS)
        headers = {"Authorization": f"Bearer {alice_key}"}
        async with httpx2.AsyncClient(
            base_url=server.url, headers=headers, limits=limits, timeout=60, trust_env=False
        ) as client:
            return await asyncio.gather(*(read(client, number) for number in range(READERS)))

    assert asyncio.run(read_all()) == ["turn.completed"] * READERS
    assert Turn.objects.filter(status="complete").count() == READERS
