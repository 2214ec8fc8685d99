"""The model server fails in every way it can: the failure has a name, the question is kept, all goes on."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from convo.llm.retries import MAX_FAILURES, REST_SECONDS
from convo.models import IndexedMessage, Message, Turn
from tests.conftest import Serve
from tests.door import COME_IN, RESET, Door
from tests.faults import QUICK, QUICK_LEASES, ask, asking, free_port, new_session, said, turn, wait_until
from tests.servers import ROOT, Server, client_of
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

AGENTS = {"CONVO_AGENTS_FILE": str(ROOT / "tests" / "agents.yaml"), "CONVO_MAX_REPLY_BYTES": "5000"}
# Far below the silence of the scenarios that are silent, far above what a busy machine takes to answer.
IMPATIENT = {"CONVO_FIRST_BYTE_SECONDS": "2", "CONVO_BETWEEN_CHUNKS_SECONDS": "2"}


@pytest.fixture
def patient(share: Serve, upstream: Upstream) -> Server:
    """One server for all scenarios: each is an agent of its name."""
    return share(OPENAI_BASE_URL=upstream.url, **AGENTS, **IMPATIENT, **QUICK_LEASES)


@pytest.fixture
def client(patient: Server, alice_key: str) -> Iterator[httpx2.Client]:
    with client_of(patient, alice_key) as client:
        yield client


def outcome(client: httpx2.Client, session: str, agent: str, *, streamed: bool) -> tuple[int, dict[str, Any]]:
    """How the question ends: the status and the body of the answer, or of the last event in its place."""
    if not streamed:
        response = ask(client, session, "why?", agent=agent)
        return response.status_code, response.json()
    with asking(client, session, "why?", agent=agent) as arriving:
        return 200, list(arriving)[-1][1]


RATE, DOWN, LATE = "upstream_rate_limited", "upstream_unavailable", "upstream_timeout"
STRANGE, CUT, REFUSED = "upstream_protocol_error", "truncated", "upstream_rejected"
ONCE = pytest.mark.once
# What the database keeps of them is of two kinds only: with the beginning of a reply, and without.
FAILURES = [
    pytest.param("429", RATE, 429, "", id="F17 rate limited", marks=ONCE),
    pytest.param("500", DOWN, 502, "", id="F18 broken"),
    pytest.param("401", REFUSED, 502, "", id="F18 refuses the key", marks=ONCE),
    pytest.param("404", REFUSED, 502, "", id="F18 knows no such model", marks=ONCE),
    pytest.param("first-byte-never", LATE, 504, "", id="F19 never begins", marks=ONCE),
    pytest.param("stall", LATE, 504, "one two ", id="F20 stalls", marks=ONCE),
    pytest.param("drop", CUT, 502, "one two ", id="F21 drops the connection"),
    pytest.param("silent-end", CUT, 502, "one two ", id="F22 ends without an end", marks=ONCE),
    pytest.param("malformed", STRANGE, 502, "one two ", id="F23 sends half a frame", marks=ONCE),
    pytest.param("error-in-stream", STRANGE, 502, "one two ", id="F23 sends an error", marks=ONCE),
    pytest.param("html", STRANGE, 502, "", id="F24 sends a web page", marks=ONCE),
    pytest.param("endless", CUT, 502, "again " * 833, id="F25 never ends", marks=ONCE),
    pytest.param("huge-chunk", CUT, 502, "", id="F25 says too much at once", marks=ONCE),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("agent", "code", "status", "kept"), FAILURES)
def test_a_failure_has_a_name_keeps_the_question_and_is_retried_without_asking_twice(
    client: httpx2.Client, upstream: Upstream, agent: str, code: str, status: int, kept: str, streamed: bool
) -> None:
    session = new_session(client)
    answered, told = outcome(client, session, agent, streamed=streamed)
    assert (answered, told["error"]["code"]) == (200 if streamed else status, code)
    assert len(upstream.heard) == 1
    assert upstream.idle.wait(5)
    broken = turn(client, session, 1)
    assert (broken["status"], broken["error"]["code"]) == ("partial" if kept else "failed", code)
    assert said(client, session) == ["u:why?", *([f"a:{kept}"] if kept else [])]
    again = client.post(f"/api/v1/sessions/{session}/turns/1/retry/", json={"agent": "words"})
    assert again.status_code == 200
    assert [message["content"] for message in upstream.last["messages"]] == ["why?"]
    assert ask(client, session, "and now?", agent="words").status_code == 200
    words = "a:word1 word2 word3 word4 word5 "
    assert said(client, session) == ["u:why?", words, "u:and now?", words]


RATE_LIMITED_FOR_A_MOMENT = (
    b"HTTP/1.1 429 -\r\nRetry-After-Ms: 50\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)
MOMENTARY = pytest.mark.parametrize(
    ("greeting", "code"), [(RATE_LIMITED_FOR_A_MOMENT, RATE), (RESET, DOWN)], ids=["F17", "F18"]
)


@pytest.mark.once
@MOMENTARY
def test_a_failure_that_passes_is_not_seen(
    serve: Serve, alice_key: str, upstream: Upstream, greeting: bytes, code: str
) -> None:
    """F17, F18"""
    with Door(upstream.url, greeting) as door:
        server = serve(OPENAI_BASE_URL=door.url, CONVO_MODEL="words-2")
        with client_of(server, alice_key) as client:
            session = new_session(client)
            assert ask(client, session).status_code == 200
            assert said(client, session) == ["u:hello", "a:word1 word2 "]
        assert (door.came, len(upstream.heard)) == (2, 1)


@pytest.mark.once
@MOMENTARY
def test_a_failure_that_stays_is_tried_once_more_and_not_again(
    serve: Serve, alice_key: str, upstream: Upstream, greeting: bytes, code: str
) -> None:
    """F17, F18"""
    with Door(upstream.url, *[greeting] * 2) as door:
        server = serve(OPENAI_BASE_URL=door.url, CONVO_MODEL="words-2")
        with client_of(server, alice_key) as client:
            assert ask(client, new_session(client)).json()["error"]["code"] == code
            assert door.came == 2
            assert ask(client, new_session(client)).status_code == 200


@pytest.mark.once
def test_a_server_that_is_away_is_left_alone_for_a_while_and_found_when_it_is_back(
    serve: Serve, alice_key: str
) -> None:
    """F18"""
    port = free_port()
    server = serve(OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1", CONVO_MODEL="words-2")
    with client_of(server, alice_key) as client:
        session = new_session(client)
        for _ in range(MAX_FAILURES):
            away = ask(client, session)
            assert (away.status_code, away.json()["error"]["code"]) == (502, DOWN)
            assert "Retry-After" not in away.headers
        with Upstream(port) as back:
            resting = ask(client, session)
            assert resting.json()["error"]["code"] == DOWN
            assert 1 <= int(resting.headers["Retry-After"]) <= REST_SECONDS
            assert back.heard == []
            wait_until(lambda: ask(client, new_session(client)).status_code == 200)
            assert len(back.heard) == 1
            assert ask(client, session, "back?").status_code == 200
        assert said(client, session)[-2:] == ["u:back?", "a:word1 word2 "]


@pytest.mark.once
def test_a_server_that_is_there_now_and_then_is_not_left_alone(
    serve: Serve, alice_key: str, upstream: Upstream
) -> None:
    """F18"""
    almost = [RESET, RESET] * (MAX_FAILURES - 1)
    with Door(upstream.url, *almost, COME_IN, *almost) as door:
        server = serve(OPENAI_BASE_URL=door.url, CONVO_MODEL="words-2")
        with client_of(server, alice_key) as client:
            session = new_session(client)
            for _ in range(2):
                for _ in range(MAX_FAILURES - 1):
                    assert ask(client, session).status_code == 502
                assert ask(client, session).status_code == 200
                # Else the next request would use the connection that is open, past the door.
                door.hang_up()
                wait_until(lambda: not upstream.connections)


@pytest.mark.once
def test_a_server_that_takes_no_connection_is_given_up(serve: Serve, alice_key: str) -> None:
    """F19"""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as waiting:
        waiting.connect(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        server = serve(OPENAI_BASE_URL=url, CONVO_MODEL="words-2", CONVO_CONNECT_SECONDS="0.3")
        with client_of(server, alice_key) as client:
            session = new_session(client)
            began = time.monotonic()
            late = ask(client, session)
            assert time.monotonic() - began < 10
            assert (late.status_code, late.json()["error"]["code"]) == (504, LATE)
            assert said(client, session) == ["u:hello"]


def test_a_reader_hears_a_heartbeat_while_the_model_is_silent(client: httpx2.Client) -> None:
    """F20"""
    body = {"message": "why?", "stream": True, "agent": "stall"}
    with client.stream("POST", "/api/v1/query/", json=body) as response:
        lines = list(response.iter_lines())
    silence = lines[lines.index("event: delta") : lines.index("event: error")]
    assert silence.count(": hb") >= 3


@pytest.mark.once
def test_a_reply_without_end_is_cut_at_its_deadline(serve: Serve, alice_key: str, upstream: Upstream) -> None:
    """F25"""
    server = serve(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="endless", CONVO_TOTAL_SECONDS="1")
    with client_of(server, alice_key) as client:
        session = new_session(client)
        cut = ask(client, session).json()
        assert (cut["error"]["code"], cut["turn"]["status"]) == (CUT, "partial")
        assert upstream.idle.wait(5)
        assert said(client, session)[1].startswith("a:again again ")


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        ("empty-choices", "one two "),
        ("null-content", "one two "),
        ("refusal", "I can't help with that."),
        ("surrogates", "nul\ufffdlone\ufffd!pair😀low\ufffd👩‍👩‍👧 家"),
        ("tool-call", ""),
    ],
)
def test_odd_frames_are_stored_by_what_they_are_or_left_out(
    client: httpx2.Client, agent: str, text: str
) -> None:
    """F26"""
    session = new_session(client)
    whole = ask(client, session, "odd?", agent=agent)
    assert (whole.status_code, whole.json()["turn"]["status"]) == (200, "complete")
    with asking(client, session, "odd?", agent=agent) as arriving:
        assert list(arriving)[-1][0] == "turn.completed"
    stored = Message.objects.filter(role="assistant")
    assert {row.content for row in stored} == {text}
    assert {row.type for row in stored} == {"message" if text else "function_call"}
    assert all(row.content or row.item for row in stored)
    assert ask(client, session, "and now?", agent="words").status_code == 200


@pytest.mark.parametrize("on_disconnect", ["cancel", "finish"])
def test_a_reader_that_leaves_stops_the_reply_only_where_that_was_wished(
    share: Serve, alice_key: str, upstream: Upstream, on_disconnect: str
) -> None:
    """F17a"""
    server = share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold", **QUICK_LEASES)
    with client_of(server, alice_key) as client:
        session, other = new_session(client), new_session(client)
        with asking(client, other, on_disconnect="cancel") as control:
            next(control)
            with asking(client, session, on_disconnect=on_disconnect) as arriving:
                while next(arriving)[0] != "delta":
                    pass
                wait_until(lambda: Turn.objects.filter(status="running", draft="first second ").count() == 2)
        # The control has left as well, and after the other one: when it has ended, both were noticed.
        wait_until(lambda: turn(client, other, 1)["status"] == "cancelled")
        # The model server hears of it a moment after the row.
        wait_until(lambda: upstream.active == (0 if on_disconnect == "cancel" else 1))
        upstream.release()
        wait_until(lambda: turn(client, session, 1)["status"] not in {"queued", "running"})
        last = "" if on_disconnect == "cancel" else "last"
        assert said(client, session) == ["u:hello", f"a:first second {last}"]
        assert turn(client, session, 1)["status"] == ("complete" if last else "cancelled")


WORDS, READERS, MOST_GROWTH = 60_000, 20, 80_000_000


@pytest.mark.once
def test_readers_that_do_not_read_hold_neither_the_model_nor_much_memory(
    serve: Serve, alice_key: str, upstream: Upstream
) -> None:
    """F17c"""
    server = serve(OPENAI_BASE_URL=upstream.url, CONVO_MODEL=f"words-{WORDS}", **QUICK)
    place = urlsplit(server.url)
    with client_of(server, alice_key) as client, ExitStack() as stack:
        assert ask(client, new_session(client)).status_code == 200
        # What the index needs is loaded with its first message.
        wait_until(lambda: IndexedMessage.objects.exists())
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        session = new_session(client)
        asked = stack.enter_context(asking(client, session))
        next(asked)
        path = f"/api/v1/sessions/{session}/turns/1/events/"
        head = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {alice_key}\r\n\r\n"
        readers = []
        for _ in range(READERS):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((place.hostname, place.port))
            reader.sendall(head.encode())
            assert reader.recv(10).startswith(b"HTTP/1.1 ")
            readers.append(reader)
        assert upstream.idle.wait(30)
        wait_until(lambda: turn(client, session, 1)["status"] == "complete")
        time.sleep(1)
        assert process.memory_info().rss - before < MOST_GROWTH
        assert list(asked)[-1][0] == "turn.completed"
