"""A write that is sent twice under one Idempotency-Key is made once, whoever dies or hurries meanwhile."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from convo import history, jobs
from convo.models import IdempotencyRecord, Message, Session, Turn
from convo.turns import AlreadyProcessed, IdempotencyKey
from tests.conftest import Serve
from tests.faults import NEVER, QUICK, QUICK_LEASES, wait_until
from tests.servers import Server, client_of
from tests.support.leases import expire
from tests.support.replays import is_replayed, send
from tests.support.rest import QUERY, SESSIONS, Caller, ok, rows
from tests.support.routes import APPEND, ASK, COLLECTIONS, OBJECTS, WRITES, address, remember
from tests.talk import begin, finish
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = 20
LONGEST = "k" * 255


@pytest.fixture(autouse=True)
def model(settings: Settings, upstream: Upstream) -> Callable[..., None]:
    """Choose what the model server does; three words at first."""

    def choose(name: str, **conf: Any) -> None:
        settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": name, **conf}

    choose("words-3")
    return choose


@pytest.fixture
def caller(alice_key: str) -> Caller:
    return Caller(alice_key)


@pytest.fixture
def session(caller: Caller, alice: User) -> str:
    """The address of a session of Alice's: a recorded message, then a question whose answer broke off.

    A memory of hers has the session's id.
    """
    address = caller.make()
    caller.append(address, *APPEND["messages"])
    caller.ask(address, "first")
    Turn.objects.filter(number=2).update(status=Turn.Status.PARTIAL)
    remember(alice, address.split("/")[-2])
    return address


def refused(response: Any, status: int) -> str:
    """The code of a refusal that must have this status."""
    return str(ok(response, status)["error"]["code"])


def asked(caller: Client, session: str) -> list[str]:
    """What the transcript shows of the user."""
    page = caller.get(f"{session}history/").json()["results"]
    return [message["content"] for message in page if message["role"] == "user"]


# Sent twice, one after the other.


@pytest.mark.parametrize(("name", "method"), WRITES)
def test_every_write_is_made_once_and_answered_twice(
    name: str, method: str, session: str, caller: Caller
) -> None:
    """F50."""
    path = address(name, session.split("/")[-2])
    body = (OBJECTS | COLLECTIONS)[name][method]
    first = send(caller, path, body, method=method)
    assert first.status_code < 300, first.content
    assert not is_replayed(first)
    before = rows()
    second = send(caller, path, body, method=method)
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert is_replayed(second)
    assert rows() == before
    assert not is_replayed(send(caller, path, body, method=method, key="another"))


def test_a_question_without_a_session_that_is_sent_twice_makes_one(
    caller: Caller, upstream: Upstream
) -> None:
    first, second = (ok(send(caller, QUERY, ASK)) for _ in range(2))
    assert first == second
    assert (Session.objects.count(), len(upstream.heard)) == (1, 1)
    ok(send(caller, QUERY, ASK, key="another"))
    assert (Session.objects.count(), len(upstream.heard)) == (2, 2)


@pytest.mark.parametrize(
    ("path", "body", "method"),
    [
        ("./query/", {"message": "another"}, "POST"),
        ("./query/?user=", ASK, "POST"),
        ("./turns/2/edit/", ASK, "POST"),
        (QUERY, ASK, "POST"),
        ("./", {"title": "a"}, "PATCH"),
        ("./history/", None, "DELETE"),
        ("./turns/2/cancel/", {}, "POST"),
    ],
)
def test_a_key_of_another_request_is_refused_and_nothing_is_written(
    session: str, caller: Caller, upstream: Upstream, path: str, body: Any, method: str
) -> None:
    """F51."""
    ok(send(caller, f"{session}query/", ASK))
    before, heard = rows(), len(upstream.heard)
    other = send(caller, path.replace("./", session), body, method=method)
    assert refused(other, 422) == "idempotency_key_reused"
    assert (rows(), len(upstream.heard)) == (before, heard)
    assert is_replayed(send(caller, f"{session}query/", ASK))


def test_the_order_of_fields_and_the_spaces_between_them_make_no_other_request(caller: Caller) -> None:
    at = {"content_type": "application/json", "headers": {"Idempotency-Key": "k"}}
    ok(caller.post(SESSIONS, b'{"title": "a", "ref": "b"}', **at), 201)  # type: ignore[arg-type]
    assert is_replayed(caller.post(SESSIONS, b'{"ref":"b","title":"a"}', **at))  # type: ignore[arg-type]


def test_a_key_is_its_senders_alone(caller: Caller, bob_key: str, upstream: Upstream) -> None:
    """F52: another user, and another end user of the same one."""
    bob = Caller(bob_key)
    answers = [
        ok(send(caller, QUERY, ASK)),
        ok(send(bob, QUERY, ASK)),
        ok(send(caller, QUERY, {**ASK, "user": "zoe"})),
        ok(caller.send(QUERY, ASK, headers={"Idempotency-Key": "k", "X-Convo-User": "yan"})),
    ]
    assert len({answer["session"] for answer in answers}) == 4
    assert len(upstream.heard) == 4
    assert is_replayed(send(bob, QUERY, ASK))
    assert is_replayed(send(caller, QUERY, {**ASK, "user": "zoe"}))


@pytest.mark.parametrize("key", ["", LONGEST + "k", "a\tb", "a\x7fb", "a\x00b", "é", "鍵"])
def test_a_key_that_is_none_is_refused(caller: Caller, key: str) -> None:
    """F54."""
    before = rows()
    assert ok(send(caller, QUERY, ASK, key=key), 400)["error"]["param"] == "Idempotency-Key"
    assert rows() == before


@pytest.mark.parametrize(("name", "method"), WRITES)
def test_every_write_looks_at_its_key(name: str, method: str, session: str, caller: Caller) -> None:
    """F54."""
    before = rows()
    body = (OBJECTS | COLLECTIONS)[name][method]
    answer = send(caller, address(name, session.split("/")[-2]), body, method=method, key="")
    assert ok(answer, 400)["error"]["param"] == "Idempotency-Key"
    assert rows() == before


@pytest.mark.parametrize("key", ["k", LONGEST, "with spaces, and ~ marks!", "0"])
def test_a_key_of_printable_ascii_is_taken(caller: Caller, key: str) -> None:
    ok(send(caller, SESSIONS, {}, key=key), 201)
    assert is_replayed(send(caller, SESSIONS, {}, key=key))


def test_a_key_is_kept_for_a_day(caller: Caller, upstream: Upstream) -> None:
    """F55."""
    ok(send(caller, QUERY, ASK))
    ok(send(caller, QUERY, ASK, key="younger"))
    _age("k", hours=24.1)
    _age("younger", hours=23.9)
    assert is_replayed(send(caller, QUERY, ASK, key="younger"))
    assert not is_replayed(send(caller, QUERY, ASK))
    assert len(upstream.heard) == 3
    assert is_replayed(send(caller, QUERY, ASK))


def test_the_sweep_deletes_keys_whose_time_is_over(caller: Caller) -> None:
    ok(send(caller, SESSIONS, {}, key="old"), 201)
    ok(send(caller, SESSIONS, {}, key="young"), 201)
    _age("old", hours=24.1)
    _age("young", hours=23.9)
    jobs.sweep()
    assert [row.key for row in IdempotencyRecord.objects.all()] == ["young"]


def _age(key: str, *, hours: float) -> None:
    IdempotencyRecord.objects.filter(key=key).update(created_at=timezone.now() - timedelta(hours=hours))


# Refusals and failures.


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("turns/3/regenerate/", "POST", 404),
        ("turns/3/", "DELETE", 404),
        ("messages/4/", "DELETE", 404),
        ("messages/4/fork/", "POST", 404),
    ],
)
def test_a_callers_mistake_stays_one(
    session: str, caller: Caller, path: str, method: str, status: int
) -> None:
    first = send(caller, session + path, method=method)
    assert first.status_code == status
    caller.ask(session, "second")
    before = rows()
    again = send(caller, session + path, method=method)
    assert (again.status_code, again.content) == (status, first.content)
    assert is_replayed(again)
    assert rows() == before
    assert send(caller, session + path, method=method, key="another").status_code < 300


def test_a_message_that_is_too_long_leaves_nothing_but_its_refusal(
    session: str, caller: Caller, model: Callable[..., None]
) -> None:
    long = {"message": "word " * 40_000}
    before = rows(but=IdempotencyRecord)
    for _ in range(2):
        assert refused(send(caller, f"{session}query/", long), 413) == "message_too_long"
    assert rows(but=IdempotencyRecord) == before


def test_a_busy_or_closed_session_refuses_for_the_moment_only(session: str, caller: Caller) -> None:
    """A 409 may go otherwise next time: no key is kept for it."""
    found = Session.objects.get()
    Session.objects.update(state=Session.State.ARCHIVED)
    for path, body in [("query/", ASK), ("messages/", APPEND), ("turns/2/regenerate/", {})]:
        assert refused(send(caller, session + path, body, key=path), 409) == "session_not_open"
    assert not IdempotencyRecord.objects.exists()
    Session.objects.update(state=Session.State.OPEN)
    running = begin(found, "busy")
    for path, body in [("query/", ASK), ("messages/", APPEND), ("turns/2/regenerate/", {})]:
        assert refused(send(caller, session + path, body, key=path), 409) == "turn_in_progress"
    assert not IdempotencyRecord.objects.exists()
    expire(running)
    for path, body in [("query/", ASK), ("messages/", APPEND), ("turns/2/regenerate/", {})]:
        assert send(caller, session + path, body, key=path).status_code < 300


@pytest.mark.parametrize("failure", ["500", "429", "html", "drop", "silent-end"])
def test_a_question_that_failed_is_asked_again_under_its_key_and_is_not_there_twice(
    caller: Caller, upstream: Upstream, model: Callable[..., None], failure: str
) -> None:
    model(failure)
    failed = send(caller, QUERY, ASK)
    assert failed.status_code in {429, 502}
    model("words-3")
    answer = ok(send(caller, QUERY, ASK))
    assert answer["session"] == failed.json()["session"]
    assert answer["turn"]["number"] == failed.json()["turn"]["number"] + 1
    assert asked(caller, f"{SESSIONS}{answer['session']}/") == ["hello"]
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["hello"]
    calls = len(upstream.heard)
    assert is_replayed(send(caller, QUERY, ASK))
    assert len(upstream.heard) == calls


@pytest.mark.parametrize(
    ("path", "body"), [("regenerate/", {}), ("retry/", {}), ("edit/", {"message": "edited"})]
)
def test_an_answer_once_more_that_failed_is_tried_again_under_its_key(
    session: str, caller: Caller, model: Callable[..., None], path: str, body: Any
) -> None:
    model("500")
    assert send(caller, f"{session}turns/2/{path}", body).status_code == 502
    questions = Message.objects.filter(role="user").count()
    model("words-3")
    answer = ok(send(caller, f"{session}turns/2/{path}", body))
    assert answer["turn"]["number"] == 4
    assert Message.objects.filter(role="user").count() == questions
    assert asked(caller, session) == ["hello", body.get("message", "first")]
    assert is_replayed(send(caller, f"{session}turns/2/{path}", body))


@pytest.mark.parametrize("scenario", ["length", "refusal", "tool-call"])
def test_an_answer_that_reached_a_limit_is_an_answer(
    caller: Caller, upstream: Upstream, model: Callable[..., None], scenario: str
) -> None:
    model(scenario)
    first = ok(send(caller, QUERY, ASK))
    again = send(caller, QUERY, ASK)
    assert (ok(again), is_replayed(again), len(upstream.heard)) == (first, True, 1)


def test_a_cancelled_turn_stays_cancelled(session: str, caller: Caller, upstream: Upstream) -> None:
    answer, heard = ok(send(caller, f"{session}query/", ASK)), len(upstream.heard)
    error = {"code": "turn_cancelled", "message": "Enough."}
    Turn.objects.filter(key=answer["turn"]["id"]).update(status=Turn.Status.CANCELLED, error=error)
    again = send(caller, f"{session}query/", ASK)
    assert refused(again, 409) == "turn_cancelled"
    assert again.json()["message"] == answer["message"]
    assert is_replayed(again)
    assert len(upstream.heard) == heard


@pytest.mark.parametrize(
    ("path", "body"), [("query/", ASK), ("turns/2/regenerate/", {}), ("messages/", APPEND)]
)
def test_what_was_cleared_since_is_neither_told_nor_written_again(
    session: str, caller: Caller, upstream: Upstream, path: str, body: Any
) -> None:
    assert send(caller, session + path, body).status_code < 300
    assert caller.delete(f"{session}history/").status_code == 204
    before, heard = rows(), len(upstream.heard)
    for _ in range(2):
        assert refused(send(caller, session + path, body), 410) == "deleted"
    assert (rows(), len(upstream.heard)) == (before, heard)
    assert caller.history(session) == []
    ok(send(caller, f"{session}query/", ASK, key="another"))


@pytest.mark.parametrize("path", ["history/", "messages/4/", "turns/3/"])
def test_a_message_that_was_deleted_since_is_told_by_no_key(session: str, caller: Caller, path: str) -> None:
    body = {"messages": [{"role": "user", "content": "a secret"}]}
    ok(send(caller, f"{session}messages/", body), 201)
    assert "a secret" in str(IdempotencyRecord.objects.get().body)
    assert caller.delete(session + path).status_code == 204
    assert refused(send(caller, f"{session}messages/", body), 410) == "deleted"
    assert IdempotencyRecord.objects.get().body is None
    assert not Message.objects.filter(content="a secret").exists()


def test_a_question_whose_session_was_deleted_is_not_asked_in_a_new_one(
    caller: Caller, upstream: Upstream
) -> None:
    made = ok(send(caller, QUERY, ASK))["session"]
    assert caller.delete(f"{SESSIONS}{made}/").status_code == 204
    assert refused(send(caller, QUERY, ASK), 410) == "deleted"
    assert (Session.objects.count(), len(upstream.heard)) == (0, 1)


# At the same moment, and over real sockets.


@pytest.fixture
def two(share: Serve, upstream: Upstream) -> Callable[..., list[Server]]:
    """Starts two web processes on one database, whose model does this."""

    def start(name: str, **env: str) -> list[Server]:
        chosen = {**QUICK_LEASES, "OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": name, **env}
        return [share(number=number, **chosen) for number in range(2)]

    return start


def all_at_once(servers: list[Server], key: str, path: str, body: Any) -> list[httpx2.Response]:
    """The answers to one request that is sent twenty times under one key, to all of these in turn."""
    ready = threading.Barrier(AT_ONCE)

    def one(number: int) -> httpx2.Response:
        with client_of(servers[number % len(servers)], key) as client:
            ready.wait()
            return client.post(path, json=body, headers={"Idempotency-Key": "k"})

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(one, range(AT_ONCE)))


@pytest.mark.parametrize("path", [QUERY, "./query/"], ids=["new session", "one session"])
def test_of_twenty_at_once_with_one_key_one_asks_the_model(
    two: Callable[..., list[Server]], alice_key: str, session: str, upstream: Upstream, path: str
) -> None:
    """F49."""
    servers, before, heard = two("words-3"), Session.objects.count(), len(upstream.heard)
    path = path.replace("./", session)
    answers = all_at_once(servers, alice_key, path, ASK)
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.text for answer in answers if answer.status_code == 200}) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["error"]["code"] == "idempotency_key_in_use"
            assert answer.headers["Retry-After"]
    assert sum(answer.status_code == 200 and not is_replayed(answer) for answer in answers) == 1
    assert len(upstream.heard) == heard + 1
    assert Session.objects.count() - before == (path == QUERY)
    assert Message.objects.filter(content="hello", turn__kind="reply").count() == 1
    late = all_at_once(servers, alice_key, path, ASK)
    assert {(answer.status_code, is_replayed(answer)) for answer in late} == {(200, True)}
    assert len(upstream.heard) == heard + 1


@pytest.mark.parametrize(
    ("path", "body"), [(SESSIONS, {"title": "a"}), ("./messages/", APPEND), ("./messages/1/fork/", {})]
)
def test_of_twenty_at_once_with_one_key_one_writes(
    two: Callable[..., list[Server]], alice_key: str, session: str, path: str, body: Any
) -> None:
    servers, before = two("words-3"), rows()
    answers = all_at_once(servers, alice_key, path.replace("./", session), body)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum(not is_replayed(answer) for answer in answers) == 1
    now = rows()
    assert (now["Session"] - before["Session"], now["Message"] - before["Message"]) == {
        SESSIONS: (1, 0),
        "./messages/": (0, 1),
        "./messages/1/fork/": (1, 1),
    }[path]


def stream(client: httpx2.Client, path: str, body: Any = ASK, **fields: Any) -> Any:
    headers = {"Idempotency-Key": "k", "Accept": "text/event-stream"}
    return client.stream("POST", path, json={**body, **fields}, headers=headers)


def frames(lines: Iterator[str]) -> list[str]:
    """The lines of a stream to its end, without its heartbeats."""
    return [line for line in lines if line and line != ": hb"]


def test_a_stream_is_joined_while_it_runs_and_replayed_when_it_has_ended(
    two: Callable[..., list[Server]], alice_key: str, upstream: Upstream
) -> None:
    """F49 and F50, for events: from its own process and from another one, and never a second model call."""
    servers = two("hold")
    with (
        client_of(servers[0], alice_key) as here,
        client_of(servers[1], alice_key) as there,
        stream(here, QUERY) as first,
    ):
        told = first.iter_lines()
        seen = [next(told)]
        while "first" not in seen[-1]:
            seen.append(next(told))
        whole = there.post(QUERY, json=ASK, headers={"Idempotency-Key": "k"})
        assert refused(whole, 409) == "idempotency_key_in_use"
        assert (whole.headers["Retry-After"], whole.json()["turn"]["number"]) == ("1", 1)
        assert not is_replayed(whole)
        with stream(here, QUERY) as beside, stream(there, QUERY) as elsewhere:
            assert [is_replayed(response) for response in (first, beside, elsewhere)] == [False, True, True]
            joined = [response.iter_lines() for response in (beside, elsewhere)]
            begun = [[next(lines) for _ in range(3)] for lines in joined]
            upstream.release()
            expected = frames(iter(seen)) + frames(told)
            for early, rest in zip(begun, joined, strict=True):
                assert frames(iter(early)) + frames(rest) == expected
        for client in (here, there):
            with stream(client, QUERY) as later:
                assert (is_replayed(later), frames(later.iter_lines())) == (True, expected)
            again = client.post(QUERY, json=ASK, headers={"Idempotency-Key": "k"})
            assert (is_replayed(again), again.json()) == (
                True,
                json.loads(expected[-1].removeprefix("data: ")),
            )
    assert len(upstream.heard) == 1


def test_a_place_in_the_queue_is_taken_once(
    two: Callable[..., list[Server]], alice_key: str, session: str, upstream: Upstream
) -> None:
    servers, patient = two("hold"), {"message": "patient", "on_busy": "queue"}
    heard = len(upstream.heard)
    with (
        client_of(servers[0], alice_key) as here,
        client_of(servers[1], alice_key) as there,
        ThreadPoolExecutor(2) as threads,
    ):
        headers = {"Idempotency-Key": "k"}
        busy = threads.submit(here.post, f"{session}query/", json={"message": "busy"})
        wait_until(lambda: Turn.objects.running().exists())
        waiting = threads.submit(here.post, f"{session}query/", json=patient, headers=headers)
        wait_until(lambda: Turn.objects.queued().exists())
        for client in (here, there):
            again = client.post(f"{session}query/", json=patient, headers=headers)
            assert refused(again, 409) == "idempotency_key_in_use"
        assert Turn.objects.queued().count() == 1
        upstream.release()
        assert busy.result().status_code == 200
        answer = waiting.result()
        assert answer.status_code == 200
        again = there.post(f"{session}query/", json=patient, headers=headers)
        assert (again.text, is_replayed(again)) == (answer.text, True)
    assert len(upstream.heard) == heard + 2
    assert list(Message.objects.filter(content="patient").values_list("position", flat=True)) == [6]


def test_an_interruption_that_is_sent_twice_interrupts_once(
    two: Callable[..., list[Server]], alice_key: str, session: str, upstream: Upstream
) -> None:
    """Its own turn is not the one that it interrupts, and neither is a later one."""
    servers, hasty = two("hold"), {"message": "hasty", "on_busy": "interrupt"}
    path, headers = f"{session}query/", {"Idempotency-Key": "k"}
    with (
        client_of(servers[0], alice_key) as here,
        client_of(servers[1], alice_key) as there,
        ThreadPoolExecutor(3) as threads,
    ):
        busy = threads.submit(here.post, path, json={"message": "busy"})
        wait_until(lambda: Turn.objects.running().exists())
        first = threads.submit(here.post, path, json=hasty, headers=headers)
        assert refused(busy.result(), 409) == "turn_cancelled"
        wait_until(lambda: Turn.objects.running().filter(number=4).exists())
        assert refused(there.post(path, json=hasty, headers=headers), 409) == "idempotency_key_in_use"
        upstream.release()
        assert first.result().status_code == 200, first.result().text
        upstream.hold()
        later = threads.submit(here.post, path, json={"message": "later"})
        wait_until(lambda: Turn.objects.running().filter(number=5).exists())
        again = there.post(path, json=hasty, headers=headers)
        assert (again.text, is_replayed(again)) == (first.result().text, True)
        upstream.release()
        assert later.result().status_code == 200, later.result().text


@pytest.mark.parametrize(
    ("reaper", "saved"), [("retry", True), ("retry", False), ("sweep", True), ("sweep", False)]
)
def test_a_question_whose_process_died_is_answered_under_its_key_by_another_one(
    serve: Serve, alice_key: str, upstream: Upstream, reaper: str, saved: bool
) -> None:
    """F53."""
    env = {**QUICK, "OPENAI_BASE_URL": upstream.url, "CONVO_SWEEP_SECONDS": NEVER}
    dying = serve(**env | {"CONVO_MODEL": "hold", "CONVO_CHECKPOINT_SECONDS": "0.1" if saved else NEVER})
    sweep = "0.1" if reaper == "sweep" else NEVER
    living = serve(**env | {"CONVO_MODEL": "words-3", "CONVO_SWEEP_SECONDS": sweep})
    with client_of(dying, alice_key) as client, stream(client, QUERY) as response:
        arriving = response.iter_lines()
        while "first" not in next(arriving):
            pass
        if saved:
            wait_until(lambda: Turn.objects.exclude(draft="").exists())
        dying.kill()
    with client_of(living, alice_key) as client:
        headers = {"Idempotency-Key": "k"}
        first = client.post(QUERY, json=ASK, headers=headers)
        assert refused(first, 409) == "idempotency_key_in_use"
        if reaper == "sweep":
            wait_until(lambda: Turn.objects.get().has_ended)
            assert Turn.objects.get().status == ("partial" if saved else "failed")

        def answered() -> httpx2.Response | None:
            found = client.post(QUERY, json=ASK, headers=headers)
            return found if found.status_code != 409 else None

        answer = wait_until(answered)
        assert (answer.status_code, is_replayed(answer)) == (200, False), answer.text
        assert answer.json()["turn"]["number"] == 2
        shown = client.get(f"{SESSIONS}{answer.json()['session']}/history/").json()["results"]
        assert [row["content"] for row in shown] == ["hello", "word1 word2 word3 "]
        again = client.post(QUERY, json=ASK, headers=headers)
        assert (again.text, is_replayed(again)) == (answer.text, True)
    assert (len(upstream.heard), Session.objects.count()) == (2, 1)


def test_a_dead_place_in_the_queue_is_asked_under_its_key(session: str, caller: Caller, alice: User) -> None:
    """F53, for a question that never was asked."""
    found, key = Session.objects.get(), IdempotencyKey(owner=alice, person="", key="k", fingerprint="f")
    busy = begin(found, "busy")
    place = begin(found, "patient", on_busy="queue", key=key)
    with pytest.raises(AlreadyProcessed):
        begin(found, "patient", on_busy="queue", key=key)
    expire(busy)
    expire(place)
    finish(begin(found, "patient", on_busy="queue", key=key))
    assert asked(caller, session) == ["hello", "first", "busy", "patient"]
    with pytest.raises(AlreadyProcessed):
        begin(found, "patient", on_busy="queue", key=key)


def test_a_question_that_waited_in_vain_is_asked_under_its_key(
    session: str, caller: Caller, model: Callable[..., None]
) -> None:
    """Its refusal is a 409, and the turn has failed all the same."""
    patient = {"message": "patient", "on_busy": "queue"}
    model("words-3", QUEUE_SECONDS=0.2)
    busy = begin(Session.objects.get(), "busy")
    waited = send(caller, f"{session}query/", patient)
    assert refused(waited, 409) == "turn_in_progress"
    assert waited.json()["turn"]["status"] == "failed"
    expire(busy)
    ok(send(caller, f"{session}query/", patient))
    assert asked(caller, session) == ["hello", "first", "busy", "patient"]
    assert is_replayed(send(caller, f"{session}query/", patient))


@pytest.mark.postgres
def test_who_asks_again_while_another_one_clears_finds_it_cleared(
    session: str, caller: Caller, model: Callable[..., None], alice: User
) -> None:
    """The session is locked first, and only then the key believed."""
    model("500")
    assert send(caller, f"{session}query/", ASK).status_code == 502
    row, found = IdempotencyRecord.objects.get(), Session.objects.get()
    key = IdempotencyKey(owner=alice, person="", key="k", fingerprint=row.fingerprint)
    outcome: list[object] = []

    def ask_again() -> None:
        try:
            begin(found, key=key)
        except AlreadyProcessed as done:
            outcome.append(done.row.status)
        finally:
            connection.close()

    with transaction.atomic():
        history.lock(found.pk)
        asking = threading.Thread(target=ask_again)
        asking.start()
        wait_until(_somebody_waits)
        history.clear(found.pk)
    asking.join()
    assert outcome == [410]
    assert not Turn.objects.exists()


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
