"""Many at once in one session, and odd or hostile clients: one answer, one order, and no harm to others."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from convo.models import Message, Turn
from tests.conftest import Serve
from tests.faults import (
    GRANIAN,
    QUICK,
    QUICK_LEASES,
    OtherServer,
    ask,
    asking,
    manage,
    new_session,
    said,
    turn,
    wait_until,
)
from tests.servers import Server, client_of
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["serve", "granian"])
def server(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Iterator[Server]:
    """A server that answers offline: both kinds that are documented."""
    env = {"CONVO_OFFLINE_WORD_SECONDS": "0", **QUICK}
    if request.param == "serve":
        yield serve(**env)
    else:
        granian = OtherServer(tmp_path / "granian.log", GRANIAN, **env)
        yield granian
        granian.kill()
        print(granian.log())


@pytest.mark.parametrize("at_once", [2, 20])
def test_of_several_questions_at_once_one_is_answered_and_the_others_are_told(
    share: Serve, alice_key: str, upstream: Upstream, at_once: int
) -> None:
    """F47"""
    env = {"OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": "hold", **QUICK_LEASES}
    servers = [share(**env), share(number=1, **env)]
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(server, alice_key)) for server in servers]
        session = new_session(clients[0])
        ready = threading.Barrier(at_once)

        def one(number: int) -> httpx2.Response:
            ready.wait()
            return ask(clients[number % 2], session, f"question {number}")

        askers = stack.enter_context(ThreadPoolExecutor(at_once))
        asked = [askers.submit(one, number) for number in range(at_once)]
        wait_until(lambda: sum(answer.done() for answer in asked) == at_once - 1)
        upstream.release()
        answers = [answer.result() for answer in asked]
        refused = [answer for answer in answers if answer.status_code == 409]
        (answered,) = [answer for answer in answers if answer.status_code == 200]
        assert len(refused) == at_once - 1
        for refusal in refused:
            told = refusal.json()
            assert told["error"]["code"] == "turn_in_progress"
            assert told["turn"] == {"id": answered.json()["turn"]["id"], "number": 1}
            assert int(refusal.headers["Retry-After"]) >= 1
        assert len(upstream.heard) == 1
        assert len(said(clients[0], session)) == 2
        assert ask(clients[1], session, "and now?").status_code == 200
    manage("verify")


def test_the_queue_keeps_its_order_in_two_servers_though_some_leave_it_and_one_server_dies(
    serve: Serve, alice_key: str, upstream: Upstream
) -> None:
    """Review 17"""
    env = {"OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": "hold", **QUICK}
    staying, dying = serve(**env), serve(**env)
    with ExitStack() as stack:
        here, there = (stack.enter_context(client_of(server, alice_key)) for server in (staying, dying))
        pool = stack.enter_context(ThreadPoolExecutor(6))
        session = new_session(here)
        first = stack.enter_context(asking(here, session, "1"))
        wait_until(Turn.objects.filter(number=1, status="running").exists)
        answers = {}
        for number in range(2, 8):
            client = there if number in {3, 6} else here
            answers[number] = pool.submit(ask, client, session, f"{number}", on_busy="queue")
            wait_until(Turn.objects.filter(number=number, status="queued").exists)
        cancelled = here.post(f"/api/v1/sessions/{session}/turns/4/cancel/", json={})
        assert cancelled.status_code == 200, cancelled.text
        dying.kill()
        upstream.release()
        assert list(first)[-1][0] == "turn.completed"
        statuses = {number: answers[number].result().status_code for number in (2, 4, 5, 7)}
        assert statuses == {2: 200, 4: 409, 5: 200, 7: 200}
        asked = [line for line in said(here, session) if line.startswith("u:")]
        assert asked == ["u:1", "u:2", "u:5", "u:7"]
        assert [turn(here, session, number)["status"] for number in (3, 6)] == ["failed"] * 2
    manage("verify")


@pytest.mark.parametrize("processes", [1, 2])
def test_twenty_who_wait_their_turn_take_hardly_longer_than_twenty_in_a_row(
    share: Serve, alice_key: str, processes: int
) -> None:
    """Review 17: at most 1.3 times as long, with replies of 0.1 s; asserted with slack."""
    env = {"CONVO_OFFLINE_WORD_SECONDS": "0.001"}
    with ExitStack() as stack:
        servers = [share(number=number, **env) for number in range(processes)]
        clients = [stack.enter_context(client_of(server, alice_key)) for server in servers]

        def ask_all(session: str, at_once: int) -> float:
            def one(number: int) -> int:
                client = clients[number % processes]
                return ask(client, session, f"question {number}", on_busy="queue").status_code

            began = time.monotonic()
            with ThreadPoolExecutor(at_once) as pool:
                assert set(pool.map(one, range(20))) == {200}
            return time.monotonic() - began

        in_a_row = ask_all(new_session(clients[0]), 1)
        waiting = ask_all(new_session(clients[0]), 20)
        print(f"in a row {in_a_row:.2f} s, waiting {waiting:.2f} s: {waiting / in_a_row:.2f}")
        assert waiting < 5 * 1.3 * in_a_row


@pytest.mark.once
def test_large_requests_leave_no_memory_behind(serve: Serve, alice_key: str) -> None:
    """Review 16: garbage, glibc, the windows of the process and what learns from it each held a part."""

    def memory() -> dict[str, int]:
        """What the server and its child use, by the command."""
        processes = [process, *process.children()]
        return {" ".join(one.cmdline()[1:4]): one.memory_info().rss // 1_000_000 for one in processes}

    # With this variable, the server and its child are started as they are without the tests.
    server = serve(PYTHONUNBUFFERED="1")
    with client_of(server, alice_key) as client:
        client.timeout = 120
        assert ask(client, new_session(client)).status_code == 200
        process = psutil.Process(server.process.pid)
        wait_until(lambda: not Turn.objects.filter(learned_at=None).exists(), seconds=60)
        before = memory()
        for number in range(5):
            text = f"line {number} of a log\n" * 900_000
            path = f"/api/v1/sessions/{new_session(client)}/messages/"
            made = client.post(path, json={"messages": [{"role": "user", "content": text}]})
            assert made.status_code == 201, made.text[:1000]
        wait_until(lambda: not Turn.objects.filter(learned_at=None).exists(), seconds=120)
        time.sleep(1)
        after = memory()
    print(before, after)
    assert len(before) == 2
    assert before.keys() == after.keys()
    # The five texts alone would take 80.
    assert all(after[name] - before[name] < 75 for name in before)


def test_messages_appended_at_once_all_have_a_place_of_their_own(share: Serve, alice_key: str) -> None:
    """F48"""
    servers = [share(), share(number=1)]
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(server, alice_key)) for server in servers]
        session = new_session(clients[0])
        ready = threading.Barrier(20)

        def append(number: int) -> httpx2.Response:
            pair = [{"role": role, "content": f"{number}"} for role in ("user", "assistant")]
            ready.wait()
            path = f"/api/v1/sessions/{session}/messages/"
            return clients[number % 2].post(path, json={"messages": pair})

        with ThreadPoolExecutor(20) as writers:
            answers = list(writers.map(append, range(20)))
        assert [answer.status_code for answer in answers] == [201] * 20
        positions = [row["position"] for answer in answers for row in answer.json()["results"]]
        assert sorted(positions) == list(range(1, 41))
        lines = said(clients[0], session)
        pairs = zip(lines[::2], lines[1::2], strict=True)
        assert {(f"u:{number}", f"a:{number}") for number in range(20)} == set(pairs)
    manage("verify")


def test_a_session_that_is_cleared_while_a_reply_is_written_stays_empty(
    share: Serve, alice_key: str, upstream: Upstream
) -> None:
    """F56"""
    server = share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold", **QUICK_LEASES)
    with client_of(server, alice_key) as client:
        session, other = new_session(client), new_session(client)
        with asking(client, session) as cleared, asking(client, other) as control:
            wait_until(lambda: Turn.objects.filter(draft="first second ").count() == 2)
            assert client.delete(f"/api/v1/sessions/{session}/history/").status_code == 204
            begun = time.monotonic()
            name, told = list(cleared)[-1]
            assert (name, told["error"]["code"]) == ("error", "turn_cancelled")
            # By its heart, long before the model's silence would end it.
            assert time.monotonic() - begun < 10
            wait_until(lambda: upstream.active == 1)
            upstream.release()
            assert list(control)[-1][0] == "turn.completed"
        assert said(client, session) == []
        assert len(said(client, other)) == 2
        assert not Message.objects.filter(session_id=session).exists()
        assert ask(client, session, "afresh").status_code == 200
        assert said(client, session)[0] == "u:afresh"
    manage("verify")


def raw(server: Server, request: bytes) -> bytes:
    """All that the server answers to these bytes until it closes, or says nothing more for a second."""
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as client:
        client.sendall(request)
        answer = b""
        client.settimeout(10)
        try:
            while data := client.recv(65536):
                answer += data
                client.settimeout(1)
        except TimeoutError:
            pass
        return answer


def test_a_request_that_says_its_length_twice_smuggles_nothing_in(server: Server, alice_key: str) -> None:
    """F43"""
    place = urlsplit(server.url)
    head = f"Host: {place.netloc}\r\nAuthorization: Bearer {alice_key}\r\n"
    smuggled = f"DELETE /api/v1/sessions/{{}}/ HTTP/1.1\r\n{head}\r\n"
    with client_of(server, alice_key) as client:
        session = new_session(client)
        hidden = smuggled.format(session)
        twice = (
            f"POST /api/v1/sessions/ HTTP/1.1\r\n{head}Content-Type: application/json\r\n"
            f"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        )
        answer = raw(server, (twice + hidden).encode())
        assert answer.count(b"HTTP/1.1 ") <= 1
        assert client.get(f"/api/v1/sessions/{session}/").status_code == 200
        # The control: alone, and honest, the hidden request would have deleted the session.
        assert raw(server, hidden.encode()).startswith(b"HTTP/1.1 204")
        assert client.get(f"/api/v1/sessions/{session}/").status_code == 404


def test_clients_that_never_finish_their_headers_hold_up_nobody(server: Server, alice_key: str) -> None:
    """F44"""
    place = urlsplit(server.url)
    with ExitStack() as stack:
        for _ in range(100):
            slow = stack.enter_context(socket.create_connection((place.hostname, place.port)))
            slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        with client_of(server, alice_key) as client:
            session = new_session(client)
            assert ask(client, session).status_code == 200
            assert len(said(client, session)) == 2
        assert server.stop() is not None


COMPRESSING = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
from django.conf import settings
settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
from project.asgi import application
"""


def test_a_stream_is_not_compressed_where_everything_else_is(
    alice_key: str, upstream: Upstream, tmp_path: Path
) -> None:
    """F45"""
    (tmp_path / "compressing.py").write_text(COMPRESSING)
    env = {"OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": "hold", "PYTHONPATH": str(tmp_path)}
    env["CONVO_BROWSABLE_API"] = "everyone"
    server = OtherServer(tmp_path / "server.log", "uvicorn", application="compressing:application", **env)
    with ExitStack() as stack:
        stack.callback(server.kill)
        client = stack.enter_context(client_of(server, alice_key))
        client.headers["Accept-Encoding"] = "gzip"
        assert client.get("/api/docs/").headers["Content-Encoding"] == "gzip"
        body = {"message": "hello", "stream": True}
        with client.stream("POST", "/api/v1/query/", json=body) as response:
            seen = b""
            for piece in response.iter_raw():
                seen += piece
                if b"second" in seen:
                    upstream.release()
        assert b"event: turn.completed" in seen
        upstream.release()
        whole = client.post("/api/v1/query/", json={"message": "hello"})
        assert "first" in json.dumps(whole.json())
        assert whole.headers["Content-Type"] == "application/json"
        page = client.post("/api/v1/query/", json={"message": "hello"}, headers={"Accept": "text/html"})
        nonces = set(re.findall(r'nonce="([^"]+)"', page.text))
        assert nonces
        assert nonces == set(re.findall(r"'nonce-([^']+)'", page.headers["Content-Security-Policy"]))
