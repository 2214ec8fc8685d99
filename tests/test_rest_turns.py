"""Turns and messages over REST: follow, cancel, answer again, choose, fork, delete; two clients at once."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from django.test import Client
from pytest_django import Settings

from convo.models import Message, Session, Turn
from tests.conftest import Serve
from tests.faults import QUICK, QUICK_LEASES, wait_until
from tests.servers import Server, client_of
from tests.support.leases import expire
from tests.support.rest import QUERY, SESSIONS, Caller, assistant, ok, rows, user
from tests.support.rest_turns import frames, refused, streaming, turn_of
from tests.talk import begin, questions
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

WRITTEN = "first second "
WHOLE = WRITTEN + "last"


@pytest.fixture(autouse=True)
def model(settings: Settings, upstream: Upstream) -> Callable[[str], None]:
    """Choose what the model server does; it repeats the prompt at first."""

    def choose(name: str) -> None:
        settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": name}

    choose("echo")
    return choose


@pytest.fixture
def caller(alice_key: str) -> Caller:
    return Caller(alice_key)


@pytest.fixture
def session(caller: Caller) -> str:
    """The address of a session of Alice's with two answered questions."""
    address = caller.make()
    caller.ask(address, "one")
    caller.ask(address, "two")
    return address


@pytest.fixture
def server(share: Serve, upstream: Upstream) -> Server:
    """A server whose model says two words, and the last one when it is released."""
    return share(**QUICK_LEASES, OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold")


@pytest.fixture
def client(server: Server, alice_key: str) -> Iterator[httpx2.Client]:
    with client_of(server, alice_key) as client:
        yield client


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def shown(caller: Client | httpx2.Client, session: str) -> list[str]:
    """The transcript, as "u:hello" and "a:hi"; of an echo the question that it repeats."""
    rows = caller.get(f"{session}history/").json()["results"]
    return [f"{row['role'][0]}:{row['content'].splitlines()[-1]}" for row in rows]


# Events.


def test_an_ended_turn_is_told_from_any_place_in_it(client: httpx2.Client, upstream: Upstream) -> None:
    upstream.release()
    live = frames(client.post(QUERY, json={"message": "hello", "stream": True}).text)
    assert [name for _, name, _ in live] == ["turn.started", *["delta"] * 3, "usage", "turn.completed"]
    at = f"{turn_of(live[0][2])}events/"
    for after in range(-1, len(live) + 1):
        behind = [event for event in live if event[0] > after]
        if after >= 0:
            assert frames(client.get(at, params={"after": after}).text) == behind
            assert frames(client.get(at, headers={"Last-Event-ID": str(after)}).text) == behind
        else:
            assert frames(client.get(at).text) == behind
    both = client.get(at, params={"after": 4}, headers={"Last-Event-ID": "0"})
    assert frames(both.text) == live[5:]
    assert both.headers["Content-Type"] == "text/event-stream"
    assert both.headers["Cache-Control"] == "no-store"
    assert len(upstream.heard) == 1


def test_a_reader_that_lost_its_stream_goes_on_where_it_was(
    client: httpx2.Client, upstream: Upstream
) -> None:
    with streaming(client) as (started, _):
        pass
    at = f"{turn_of(started)}events/"
    with (
        client.stream("GET", at, headers={"Last-Event-ID": "1"}) as one,
        client.stream("GET", at, params={"after": 2}) as other,
    ):
        upstream.release()
        told = [frames("\n".join(response.iter_lines()) + "\n") for response in (one, other)]
    assert [data["text"] for _, name, data in told[0] if name == "delta"] == ["second ", "last"]
    assert [id for id, _, _ in told[0]] == [2, 3, 4, 5]
    assert told[1] == told[0][1:]
    assert len(upstream.heard) == 1


def test_the_events_of_a_failure_end_in_the_error(share: Serve, alice_key: str, upstream: Upstream) -> None:
    server = share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="silent-end")
    with client_of(server, alice_key) as client:
        live = frames(client.post(QUERY, json={"message": "hello", "stream": True}).text)
        assert [name for _, name, _ in live] == ["turn.started", "delta", "delta", "error"]
        assert live[-1][2]["error"]["code"] == "truncated"
        assert frames(client.get(f"{turn_of(live[0][2])}events/").text) == live


@pytest.mark.parametrize("after", ["", "-1", "x", "1.5", "9" * 30, "%00", "٣"])
def test_a_place_that_is_none_is_refused(session: str, caller: Caller, after: str) -> None:
    answer = caller.get(f"{session}turns/1/events/?after={after}")
    assert ok(answer, 400)["error"]["param"] == "after"
    assert caller.get(f"{session}turns/1/events/?after=0").status_code == 200


def test_the_events_of_no_turn_and_of_somebody_elses_are_404(
    session: str, caller: Caller, bob_key: str
) -> None:
    assert refused(caller.get(f"{session}turns/3/events/"), 404) == "not_found"
    assert refused(Caller(bob_key).get(f"{session}turns/1/events/"), 404) == "not_found"
    assert caller.get(f"{session}turns/1/events/").status_code == 200


# Cancel.


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_running_turn_is_cancelled_and_keeps_what_it_has_said(
    client: httpx2.Client, threads: ThreadPoolExecutor, upstream: Upstream, streamed: bool
) -> None:
    asked = threads.submit(client.post, QUERY, json={"message": "hello", "stream": streamed})
    wait_until(lambda: Turn.objects.filter(draft=WRITTEN).exists())
    at = f"{SESSIONS}{Session.objects.get().pk}/turns/1/"
    cancelled = ok(client.post(f"{at}cancel/"))
    assert cancelled == ok(client.get(at))
    assert (cancelled["status"], cancelled["error"]["code"]) == ("cancelled", "turn_cancelled")
    assert [row["content"] for row in cancelled["messages"]] == ["hello", WRITTEN]
    assert upstream.idle.wait(5)
    told = frames(asked.result().text)[-1][2] if streamed else ok(asked.result(), 409)
    assert told["error"]["code"] == "turn_cancelled"
    assert told["message"]["content"] == WRITTEN


def test_a_cancelled_place_in_the_queue_is_never_asked(
    client: httpx2.Client, threads: ThreadPoolExecutor, upstream: Upstream
) -> None:
    with streaming(client) as (started, rest):
        session = f"{SESSIONS}{started['session']}/"
        body = {"message": "patient", "on_busy": "queue"}
        waiting = threads.submit(client.post, f"{session}query/", json=body)
        wait_until(lambda: Turn.objects.queued().exists())
        cancelled = ok(client.post(f"{session}turns/2/cancel/"))
        assert (cancelled["status"], cancelled["messages"]) == ("cancelled", [])
        assert refused(waiting.result(), 409) == "turn_cancelled"
        assert ok(client.get(f"{session}turns/1/"))["status"] == "running"
        upstream.release()
        assert "event: turn.completed" in list(rest)
    assert shown(client, session) == ["u:hello", f"a:{WHOLE}"]
    assert len(upstream.heard) == 1


@pytest.mark.parametrize("scenario", ["echo", "500", "silent-end", "length"])
def test_a_turn_that_has_ended_is_not_changed_by_cancelling_it(
    session: str, caller: Caller, model: Callable[[str], None], scenario: str
) -> None:
    model(scenario)
    caller.send(f"{session}query/", {"message": "three"})
    before = ok(caller.get(f"{session}turns/3/"))
    assert ok(caller.send(f"{session}turns/3/cancel/")) == before
    assert ok(caller.get(f"{session}turns/3/")) == before


# Once more, otherwise, elsewhere.


def test_another_answer_stands_beside_the_first_and_either_can_be_chosen(
    session: str, caller: Caller, model: Callable[[str], None]
) -> None:
    model("words-3")
    again = ok(caller.send(f"{session}turns/2/regenerate/"))
    assert again["turn"]["number"] == 3
    assert [row["role"] for row in again["messages"]] == ["assistant"]
    assert shown(caller, session) == ["u:one", "a:user: one", "u:two", "a:word1 word2 word3 "]
    for number in (2, 3):
        assert ok(caller.get(f"{session}turns/{number}/"))["alternatives"] == [2, 3]
    assert ok(caller.get(f"{session}turns/1/"))["alternatives"] == [1]
    chosen = ok(caller.send(f"{session}turns/2/activate/"))
    assert chosen == ok(caller.get(session))
    assert shown(caller, session)[-1] == "a:user: two"
    ok(caller.send(f"{session}turns/3/activate/"))
    assert shown(caller, session)[-1] == "a:word1 word2 word3 "


def test_another_agent_can_answer_once_more(session: str, caller: Caller) -> None:
    refusal = caller.send(f"{session}turns/2/regenerate/", {"agent": "nobody"})
    assert refused(refusal, 400) == "unknown_agent"
    again = ok(caller.send(f"{session}turns/2/regenerate/", {"agent": "assistant"}))
    assert again["turn"]["agent"] == "assistant"


def test_an_edited_question_takes_the_place_of_the_first(
    session: str, caller: Caller, upstream: Upstream
) -> None:
    edited = ok(caller.send(f"{session}turns/1/edit/", {"message": "uno"}))
    assert questions(upstream.last["messages"]) == ["uno"]
    assert edited["turn"]["number"] == 3
    assert shown(caller, session) == ["u:uno", "a:user: uno"]
    assert ok(caller.get(f"{session}turns/3/"))["alternatives"] == [1, 3]
    ok(caller.send(f"{session}turns/1/activate/"))
    assert shown(caller, session) == ["u:one", "a:user: one", "u:two", "a:user: two"]


@pytest.mark.parametrize("scenario", ["500", "429", "silent-end"])
def test_a_turn_that_broke_off_is_retried_without_asking_twice(
    session: str, caller: Caller, model: Callable[[str], None], upstream: Upstream, scenario: str
) -> None:
    model(scenario)
    assert caller.send(f"{session}query/", {"message": "three"}).status_code in {429, 502}
    model("echo")
    again = ok(caller.send(f"{session}turns/3/retry/"))
    assert (again["turn"]["number"], again["turn"]["status"]) == (4, "complete")
    assert shown(caller, session)[4:] == ["u:three", "a:user: three"]
    assert questions(upstream.last["messages"]) == ["one", "two", "three"]


def test_an_answer_is_not_retried(session: str, caller: Caller) -> None:
    before = rows()
    assert refused(caller.send(f"{session}turns/2/retry/"), 400) == "invalid_value"
    assert rows() == before
    Turn.objects.filter(number=2).update(status="cancelled")
    assert ok(caller.send(f"{session}turns/2/retry/"))["turn"]["number"] == 3


@pytest.mark.parametrize(("action", "body"), [("regenerate", {}), ("retry", {}), ("edit", {"message": "a"})])
def test_an_answer_once_more_is_streamed_as_any_other(
    client: httpx2.Client, upstream: Upstream, action: str, body: dict[str, str]
) -> None:
    upstream.release()
    first = ok(client.post(QUERY, json={"message": "hello"}))
    Turn.objects.update(status="partial")
    at = f"{SESSIONS}{first['session']}/turns/1/{action}/"
    for wanted, accept in (({"stream": True}, "*/*"), ({}, "text/event-stream")):
        told = frames(client.post(at, json={**body, **wanted}, headers={"Accept": accept}).text)
        assert [name for _, name, _ in told] == ["turn.started", *["delta"] * 3, "usage", "turn.completed"]
        assert told[-1][2]["message"]["content"] == WHOLE


AGAIN = [("regenerate", {}), ("retry", {}), ("edit", {"message": "a"}), ("activate", {}), ("cancel", {})]


@pytest.mark.parametrize(("action", "body"), AGAIN)
@pytest.mark.parametrize("number", ["0", "3", "999999999", "9" * 10, "x", "-1"])
def test_what_is_done_to_no_turn_is_404(
    session: str, caller: Caller, action: str, body: dict[str, str], number: str
) -> None:
    before = rows()
    assert refused(caller.send(f"{session}turns/{number}/{action}/", body), 404) == "not_found"
    assert rows() == before


@pytest.mark.parametrize(("action", "body"), AGAIN)
@pytest.mark.parametrize("wrong", [b"[]", b'"x"', b"{", {"nonsense": 1}, {"agent": 1}, {"stream": "maybe"}])
def test_what_makes_no_sense_is_refused(
    session: str, caller: Caller, action: str, body: dict[str, str], wrong: Any
) -> None:
    Turn.objects.filter(number=2).update(status="partial")
    before = rows()
    given = {**body, **wrong} if isinstance(wrong, dict) else wrong
    assert refused(caller.send(f"{session}turns/2/{action}/", given), 400)
    assert rows() == before
    ok(caller.send(f"{session}turns/2/{action}/", body))


@pytest.mark.parametrize("message", [None, "", "  ", 1, ["a"], {"text": "a"}])
def test_a_question_is_edited_into_text(session: str, caller: Caller, message: Any) -> None:
    for body in ({}, {"message": message}):
        assert ok(caller.send(f"{session}turns/2/edit/", body), 400)["error"]["param"] == "message"
    ok(caller.send(f"{session}turns/2/edit/", {"message": "deux"}))


def test_a_turn_behind_another_branch_must_be_activated_first(session: str, caller: Caller) -> None:
    ok(caller.send(f"{session}turns/1/regenerate/"))
    before = rows()
    for action, body in AGAIN[:3:2]:
        answer = caller.send(f"{session}turns/2/{action}/", body)
        assert refused(answer, 409) == "branch_not_active"
        assert answer.json()["turn"]["number"] == 1
    assert rows() == before
    ok(caller.send(f"{session}turns/1/activate/"))
    ok(caller.send(f"{session}turns/2/regenerate/"))


def test_beside_a_running_turn_nothing_is_answered_again_chosen_or_deleted(
    session: str, caller: Caller
) -> None:
    Turn.objects.filter(number=2).update(status="partial")
    running = begin(Session.objects.get(), "three")
    changes: list[tuple[str, str, dict[str, str]]] = [
        *(("POST", f"turns/2/{action}/", body) for action, body in AGAIN[:4]),
        ("DELETE", "messages/2/", {}),
        ("DELETE", "turns/1/", {}),
    ]
    before = rows()
    for method, path, body in changes:
        answer = caller.send(session + path, body, method=method)
        assert refused(answer, 409) == "turn_in_progress"
        assert answer.json()["turn"]["number"] == 3
        assert int(answer["Retry-After"]) >= 1
    assert rows() == before
    forked = ok(caller.send(f"{session}messages/2/fork/"), 201)
    assert shown(caller, f"{SESSIONS}{forked['id']}/") == ["u:one", "a:user: one"]
    expire(running)
    for method, path, body in changes:
        assert caller.send(session + path, body, method=method).status_code < 300


def test_an_archived_session_answers_nothing_again(session: str, caller: Caller) -> None:
    ok(caller.send(session, {"state": "archived"}, method="PATCH"))
    for action, body in AGAIN[:3:2]:
        assert refused(caller.send(f"{session}turns/2/{action}/", body), 409) == "session_not_open"
    ok(caller.send(session, {"state": "open"}, method="PATCH"))
    ok(caller.send(f"{session}turns/2/regenerate/"))


def test_a_fork_goes_on_by_itself(session: str, caller: Caller) -> None:
    forked = ok(caller.send(f"{session}messages/2/fork/"), 201)
    assert forked["message_count"] == 2
    ok(caller.send(f"{SESSIONS}{forked['id']}/query/", {"message": "elsewhere"}))
    assert shown(caller, f"{SESSIONS}{forked['id']}/") == [
        "u:one",
        "a:user: one",
        "u:elsewhere",
        "a:user: elsewhere",
    ]
    assert shown(caller, session)[2:] == ["u:two", "a:user: two"]
    for position in ("0", "5"):
        assert refused(caller.send(f"{session}messages/{position}/fork/"), 404) == "not_found"
    assert refused(caller.send(f"{session}messages/1/fork/", {"title": "a"}), 400) == "unknown_parameter"


# Delete.


def test_with_a_question_go_its_answers(session: str, caller: Caller, upstream: Upstream) -> None:
    ok(caller.send(f"{session}turns/2/regenerate/"))
    assert caller.delete(f"{session}messages/3/").status_code == 204
    assert shown(caller, session) == ["u:one", "a:user: one"]
    assert not Message.objects.exclude(erased_at=None).exclude(content="").exists()
    assert refused(caller.delete(f"{session}messages/3/"), 404) == "not_found"
    assert refused(caller.send(f"{session}turns/2/regenerate/"), 404) == "not_found"
    assert refused(caller.send(f"{session}turns/2/activate/"), 404) == "not_found"
    assert ok(caller.get(f"{session}turns/2/"))["messages"] == []
    caller.ask(session, "three")
    assert questions(upstream.last["messages"]) == ["one", "three"]
    assert caller.history(session)[-1]["position"] == 7


def test_an_answer_is_deleted_alone(session: str, caller: Caller) -> None:
    assert caller.delete(f"{session}messages/4/").status_code == 204
    assert shown(caller, session) == ["u:one", "a:user: one", "u:two"]
    ok(caller.send(f"{session}turns/2/regenerate/"))
    assert shown(caller, session)[2:] == ["u:two", "a:user: two"]


def test_a_turn_is_deleted_with_all_that_was_said_in_it(session: str, caller: Caller) -> None:
    caller.append(session, user("three"), assistant("drei"))
    for number, left in ((1, 4), (3, 2), (2, 0)):
        assert caller.delete(f"{session}turns/{number}/").status_code == 204
        assert len(caller.history(session)) == left
        assert refused(caller.delete(f"{session}turns/{number}/"), 404) == "not_found"
    assert ok(caller.get(session))["message_count"] == 0


# Two clients.


def test_a_question_waits_its_turn_where_it_was_asked_to(
    client: httpx2.Client, threads: ThreadPoolExecutor, upstream: Upstream
) -> None:
    with streaming(client) as (started, rest):
        session = f"{SESSIONS}{started['session']}/"
        waiting = []
        for number in (2, 3):
            body = {"message": f"question {number}", "on_busy": "queue", "stream": number == 3}
            waiting.append(threads.submit(client.post, f"{session}query/", json=body))
            wait_until(Turn.objects.queued().filter(number=number).exists)
        impatient = client.post(f"{session}query/", json={"message": "now", "on_busy": "reject"})
        assert refused(impatient, 409) == "turn_in_progress"
        assert impatient.json()["turn"]["number"] == 1
        upstream.release()
        assert "event: turn.completed" in list(rest)
    assert ok(waiting[0].result())["turn"]["number"] == 2
    assert frames(waiting[1].result().text)[-1][1] == "turn.completed"
    said = [line for line in shown(client, session) if line.startswith("u:")]
    assert said == ["u:hello", "u:question 2", "u:question 3"]


def test_an_interruption_ends_the_other_ones_answer_and_keeps_what_it_said(
    client: httpx2.Client, upstream: Upstream
) -> None:
    with streaming(client) as (started, rest):
        session = f"{SESSIONS}{started['session']}/"
        with streaming(client, f"{session}query/", message="wait!", on_busy="interrupt") as (_, answer):
            ended = list(rest)
            assert "event: error" in ended
            assert any("turn_cancelled" in line for line in ended)
            upstream.release()
            assert "event: turn.completed" in list(answer)
    assert shown(client, session) == ["u:hello", f"a:{WRITTEN}", "u:wait!", f"a:{WHOLE}"]


def test_a_queue_that_is_full_takes_nobody(
    serve: Serve, alice_key: str, threads: ThreadPoolExecutor, upstream: Upstream
) -> None:
    server = serve(**QUICK, OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold", CONVO_QUEUE_LENGTH="1")
    body = {"message": "patient", "on_busy": "queue"}
    with client_of(server, alice_key) as client, streaming(client) as (started, _):
        at = f"{SESSIONS}{started['session']}/query/"
        waiting = threads.submit(client.post, at, json=body)
        wait_until(lambda: Turn.objects.queued().exists())
        full = client.post(at, json=body)
        assert refused(full, 409) == "turn_in_progress"
        assert full.headers["Retry-After"] == "1"
        upstream.release()
        ok(waiting.result())


@pytest.mark.parametrize("on_busy", ["", "wait", None, 1, ["queue"]])
def test_a_policy_that_is_none_is_refused(session: str, caller: Caller, on_busy: Any) -> None:
    answer = caller.send(f"{session}query/", {"message": "hello", "on_busy": on_busy})
    assert ok(answer, 400)["error"]["param"] == "on_busy"
    ok(caller.send(f"{session}query/", {"message": "hello", "on_busy": "queue"}))


def test_each_delta_has_the_bytes_of_its_json(share: Serve, alice_key: str, upstream: Upstream) -> None:
    said = 'a "b" \\ <c>\n\u2028 家👩 \x7f' * 3
    server = share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="parrot")
    with client_of(server, alice_key) as client:
        text = client.post(QUERY, json={"message": said, "stream": True}).text
    events = [event for event in text.split("\n\n") if "event: delta\n" in event]
    texts = [json.loads(event.partition("data: ")[2])["text"] for event in events]
    assert "".join(texts) == said
    assert events == [
        f"id: {id}\nevent: delta\ndata: {json.dumps({'text': text}, ensure_ascii=False)}"
        for id, text in enumerate(texts, 1)
    ]


@contextmanager
def sending(server: Server, key: str, fields: dict[str, Any]) -> Iterator[None]:
    """Send a question, and leave without reading the reply."""
    place = urlsplit(server.url)
    body = json.dumps({"message": "hello", **fields}).encode()
    head = (
        f"POST {QUERY} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((place.hostname, place.port)) as reader:
        reader.sendall(head.encode() + body)
        yield


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_readers_that_leave_while_their_turn_begins_stop_it(
    server: Server, alice_key: str, upstream: Upstream, streamed: bool
) -> None:
    for milliseconds in range(1, 25, 2):
        with sending(server, alice_key, {"stream": streamed, "on_disconnect": "cancel"}):
            time.sleep(milliseconds / 1000)
    time.sleep(3)
    # Some left before their turn was stored, but not all.
    wait_until(lambda: Turn.objects.filter(status="cancelled").exists())
    wait_until(lambda: not Turn.objects.unfinished().exists())
    assert not Turn.objects.filter(status="complete").exists()


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("policy", "ending"), [("cancel", "cancelled"), ("finish", "complete")])
def test_a_reader_that_leaves_stops_the_reply_only_where_it_said_so(
    server: Server, alice_key: str, upstream: Upstream, policy: str, ending: str, streamed: bool
) -> None:
    """F17a."""
    with sending(server, alice_key, {"stream": streamed, "on_disconnect": policy}):
        wait_until(lambda: Turn.objects.filter(draft=WRITTEN).exists())
    if policy == "cancel":
        assert upstream.idle.wait(5)
    else:
        assert not upstream.idle.wait(1)
        upstream.release()
    wait_until(lambda: Turn.objects.filter(status=ending).exists())
    expected = WRITTEN if policy == "cancel" else WHOLE
    assert Message.objects.get(role="assistant").content == expected
