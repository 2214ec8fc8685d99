"""Web processes that are killed, told to end, or have the wrong time: nothing that was saved is lost."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from convo.models import Message, Session, Turn
from tests.conftest import Serve
from tests.faults import (
    GRANIAN,
    LEASE_SECONDS,
    NEVER,
    QUICK,
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

Start = Callable[..., Server]

COMMANDS = {
    "granian": GRANIAN,
    # Without a lifespan nobody ends the turns at SIGTERM, and the servers' own patience runs out.
    "uvicorn-impatient": "uvicorn --lifespan off --timeout-graceful-shutdown 1",
    "granian-impatient": "granian --interface asginl --workers-kill-timeout 1",
}


@pytest.fixture
def start(serve: Serve, tmp_path: Path) -> Iterator[Start]:
    """Starts `manage.py serve` or one of COMMANDS; they end with the test."""
    servers: list[Server] = []

    def started(kind: str, **env: str) -> Server:
        if kind == "serve":
            return serve(**env)
        servers.append(OtherServer(tmp_path / f"{kind}.log", COMMANDS[kind], **env))
        return servers[-1]

    yield started
    for server in servers:
        server.kill()
        print(f"--- {server.url} wrote:\n{server.log()}")


def drain(arriving: Iterator[Any]) -> list[Any]:
    """What still comes of a stream that may break."""
    rest = []
    with suppress(httpx2.TransportError):
        for event in arriving:
            rest.append(event)
    return rest


def wait_for_draft(text: str = "first second ") -> None:
    wait_until(lambda: Turn.objects.filter(status="running", draft=text).exists())


@pytest.mark.parametrize("noticed_by", ["the next question", "the sweep"])
def test_a_killed_server_keeps_the_question_and_what_was_saved_of_the_reply(
    serve: Serve, alice_key: str, upstream: Upstream, noticed_by: str
) -> None:
    """F1"""
    env = {"OPENAI_BASE_URL": upstream.url, **QUICK, "CONVO_SWEEP_SECONDS": NEVER}
    doomed = serve(CONVO_MODEL="hold", **env)
    env["CONVO_SWEEP_SECONDS"] = NEVER if noticed_by == "the next question" else "0.3"
    other = serve(CONVO_MODEL="words-2", **env)
    with client_of(doomed, alice_key) as client:
        session = new_session(client)
        with asking(client, session, "one?") as arriving:
            wait_for_draft()
            doomed.kill()
            assert "turn.completed" not in [name for name, _ in drain(arriving)]
    with client_of(other, alice_key) as client:
        refused = ask(client, session, "two?")
        assert refused.json()["error"]["code"] == "turn_in_progress"
        assert 1 <= int(refused.headers["Retry-After"]) <= LEASE_SECONDS
        if noticed_by == "the sweep":
            wait_until(lambda: Turn.objects.filter(status="partial").exists())
        wait_until(lambda: ask(client, session, "two?").status_code == 200)
        assert said(client, session) == ["u:one?", "a:first second ", "u:two?", "a:word1 word2 "]
        dead = turn(client, session, 1)
        assert (dead["status"], dead["error"]["code"]) == ("partial", "interrupted")
    manage("verify")


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        pytest.param("serve", signal.SIGTERM, id="uvicorn"),
        pytest.param("serve", signal.SIGINT, id="uvicorn by Ctrl-C", marks=pytest.mark.once),
        pytest.param("granian", signal.SIGTERM, id="granian"),
    ],
)
def test_a_server_that_is_told_to_end_tells_its_readers_and_saves_what_they_have(
    start: Start, share: Serve, alice_key: str, upstream: Upstream, kind: str, number: signal.Signals
) -> None:
    """F2"""
    server = start(kind, OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold", **QUICK)
    whole: list[httpx2.Response] = []
    with client_of(server, alice_key) as client:
        streamed, waited = new_session(client), new_session(client)
        waiting = threading.Thread(target=lambda: whole.append(ask(client, waited, "whole?")))
        waiting.start()
        with asking(client, streamed, "streamed?") as arriving:
            wait_until(lambda: Turn.objects.filter(status="running", draft="first second ").count() == 2)
            server.process.send_signal(number)
            began = time.monotonic()
            name, told = list(arriving)[-1]
        waiting.join()
        server.process.wait(20)
        assert time.monotonic() - began < 15
    assert (name, told["error"]["code"], told["retryable"]) == ("error", "server_shutdown", True)
    assert (whole[0].status_code, whole[0].json()["error"]["code"]) == (503, "server_shutdown")
    assert upstream.idle.wait(5)
    assert set(Turn.objects.values_list("status", "error__code")) == {("partial", "server_shutdown")}
    with client_of(share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="words-2"), alice_key) as client:
        assert said(client, streamed) == ["u:streamed?", "a:first second "]
        assert ask(client, streamed, "again?").status_code == 200
    manage("verify")


class HalfSent:
    """A request whose last byte is held back: the server has begun it, and can't finish it yet."""

    def __init__(
        self, server: Server, method: str, path: str, body: dict[str, Any], *, key: str = ""
    ) -> None:
        place = urlsplit(server.url)
        content = json.dumps(body).encode()
        self._last = content[-1:]
        self._socket = socket.create_connection((place.hostname, place.port), timeout=20)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + content[:-1])

    def answer(self) -> str:
        """All that the server says to the whole request, until it closes the connection."""
        self._socket.sendall(self._last)
        with self._socket, self._socket.makefile("rb") as answer:
            return answer.read().decode()


def refuses_connections(server: Server) -> bool:
    place = urlsplit(server.url)
    try:
        socket.create_connection((place.hostname, place.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.once
def test_a_server_that_ends_is_not_ready_and_begins_no_reply(
    serve: Serve, alice_key: str, upstream: Upstream
) -> None:
    """F2"""
    server = serve(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="words-2", **QUICK)
    with client_of(server, alice_key) as client:
        session = new_session(client)
        assert client.get("/readyz").status_code == 200
    path = f"/api/v1/sessions/{session}/query/"
    probe = HalfSent(server, "GET", "/readyz", {})
    question = HalfSent(server, "POST", path, {"message": "too late?", "stream": True}, key=alice_key)
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: refuses_connections(server))
    assert '"server": "stopping"' in (ready := probe.answer())
    assert ready.startswith("HTTP/1.1 503")
    assert '"code": "server_shutdown"' in question.answer()
    server.process.wait(20)
    assert upstream.heard == []
    assert [message.content for message in Message.objects.all()] == ["too late?"]


@pytest.mark.parametrize("kind", ["uvicorn-impatient", "granian-impatient"])
def test_a_server_that_cannot_end_its_replies_leaves_them_to_the_next(
    start: Start, share: Serve, alice_key: str, upstream: Upstream, kind: str
) -> None:
    """F3"""
    env = {"OPENAI_BASE_URL": upstream.url, **QUICK}
    server = start(kind, CONVO_MODEL="hold", **env)
    other = share(CONVO_MODEL="words-2", **env)
    with client_of(server, alice_key) as client:
        session = new_session(client)
        with asking(client, session, "one?") as arriving:
            wait_for_draft()
            server.process.send_signal(signal.SIGTERM)
            assert "turn.completed" not in [name for name, _ in drain(arriving)]
        server.process.wait(20)
    with client_of(other, alice_key) as client:
        wait_until(lambda: ask(client, session, "two?").status_code == 200)
        assert said(client, session) == ["u:one?", "a:first second ", "u:two?", "a:word1 word2 "]
        dead = turn(client, session, 1)
        assert (dead["status"], dead["error"]["code"]) == ("partial", "interrupted")
    manage("verify")


WRONG_CLOCK = """
import datetime, os, time
real_time, real_datetime = time.time, datetime.datetime

def wrong_by():
    with open(os.environ["WRONG_CLOCK"]) as told:
        return float(told.read())

class Kind(type(real_datetime)):
    def __instancecheck__(cls, value):
        return isinstance(value, real_datetime)

class WrongDatetime(real_datetime, metaclass=Kind):
    @classmethod
    def now(cls, tz=None):
        return real_datetime.now(tz) + datetime.timedelta(seconds=wrong_by())

time.time = lambda: real_time() + wrong_by()
datetime.datetime = WrongDatetime
"""


@pytest.fixture
def clock(tmp_path: Path) -> Callable[[str, int], dict[str, str]]:
    """Sets a process's clock: `clock("name", 3600)` is the environment in which it is an hour ahead."""
    (tmp_path / "sitecustomize.py").write_text(WRONG_CLOCK)

    def set_(name: str, seconds: int) -> dict[str, str]:
        told = tmp_path / f"{name}.clock"
        swapped = told.with_suffix(".new")
        swapped.write_text(str(seconds))
        swapped.replace(told)
        return {"PYTHONPATH": str(tmp_path), "WRONG_CLOCK": str(told)}

    return set_


def test_servers_whose_clocks_are_hours_apart_keep_order_and_leases(
    serve: Serve, alice_key: str, upstream: Upstream, clock: Callable[[str, int], dict[str, str]]
) -> None:
    """F12"""
    env = {"OPENAI_BASE_URL": upstream.url, **QUICK}
    ahead = serve(CONVO_MODEL="hold", **env, **clock("ahead", 3600))
    behind = serve(CONVO_MODEL="words-1", **env, **clock("behind", -3600))
    with client_of(ahead, alice_key) as early, client_of(behind, alice_key) as late:
        session = new_session(early)
        skew = (
            Session.objects.get(pk=session).created_at - Session.objects.get(pk=new_session(late)).created_at
        )
        assert 7000 < skew.total_seconds() < 7500
        with asking(early, session, "one?") as arriving:
            wait_for_draft()
            # Both processes sweep all the time; only the database's clock may say that a lease is over.
            time.sleep(1.5 * LEASE_SECONDS)
            refused = ask(late, session, "two?")
            assert refused.status_code == 409
            assert 1 <= int(refused.headers["Retry-After"]) <= LEASE_SECONDS
            upstream.release()
            assert list(arriving)[-1][0] == "turn.completed"
        assert ask(late, session, "two?").status_code == 200
        assert ask(early, session, "three?").status_code == 200
        assert [line for line in said(late, session) if line[0] == "u"] == ["u:one?", "u:two?", "u:three?"]
        upstream.hold()
        with asking(early, session, "four?"):
            wait_for_draft()
            ahead.kill()
        wait_until(lambda: Turn.objects.get(number=4).status == "partial")
    manage("verify")


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_jumps_while_a_reply_is_written_ends_nothing(
    serve: Serve, alice_key: str, upstream: Upstream, clock: Callable[[str, int], dict[str, str]], jump: int
) -> None:
    """F12"""
    server = serve(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold", **QUICK, **clock("server", 0))
    with client_of(server, alice_key) as client:
        session = new_session(client)
        with asking(client, session) as arriving:
            wait_for_draft()
            clock("server", jump)
            time.sleep(1.5 * LEASE_SECONDS)
            jumped = Session.objects.get(pk=new_session(client)).created_at
            assert abs((jumped - Session.objects.get(pk=session).created_at).total_seconds()) > 3000
            upstream.release()
            assert list(arriving)[-1][0] == "turn.completed"
        assert said(client, session) == ["u:hello", "a:first second last"]
