"""The REST API, as somebody with a key meets it."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import jsonschema  # type: ignore[import-untyped]
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, resolve
from django.utils import timezone
from pytest_django import Settings

from convo.http import errors
from convo.models import Message, Person, Session, Turn
from convo.rest.urls import router
from tests.conftest import Serve
from tests.corpus import DATA_URI
from tests.servers import Server, client_of
from tests.support.rest import CALL, MEMORIES, QUERY, RESULT, SESSIONS, Caller, assistant, ok, rows, user
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

AGENTS = Path(__file__).with_name("agents.yaml")
# Long enough for a machine on which four runs share the processors.
SHORT = {"FIRST_BYTE_SECONDS": 1.6, "BETWEEN_CHUNKS_SECONDS": 1.6, "TOTAL_SECONDS": 4}


def said(messages: list[Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


@pytest.fixture(autouse=True)
def _instant(settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "OFFLINE_WORD_SECONDS": 0}


@pytest.fixture
def alice_calls(alice_key: str) -> Caller:
    return Caller(alice_key)


@pytest.fixture
def bob_calls(bob_key: str) -> Caller:
    return Caller(bob_key)


@pytest.fixture
def model(settings: Settings, upstream: Upstream) -> Upstream:
    """The model server, which the agents of agents.yaml ask; the default one is an echo."""
    found = {"OPENAI_BASE_URL": upstream.url, "AGENTS_FILE": str(AGENTS)}
    settings.CONVO = {**settings.CONVO, **SHORT, **found}
    return upstream


# The walk, and who may take it.


def test_a_follow_up_knows_what_came_before_and_after_a_clear_does_not(
    alice_calls: Caller, model: Upstream
) -> None:
    session = alice_calls.make()
    first = alice_calls.ask(session, "Zephyr 14 or Atlas 15?")
    assert first["message"]["role"] == "assistant"
    assert f"{SESSIONS}{first['session']}/" == session
    alice_calls.ask(session, "Which of these is lighter?")
    heard = [("user", "Zephyr 14 or Atlas 15?"), ("assistant", first["message"]["content"])]
    assert said(model.last["messages"]) == [*heard, ("user", "Which of these is lighter?")]
    assert [message["position"] for message in alice_calls.history(session)] == [1, 2, 3, 4]

    assert alice_calls.delete(f"{session}history/").status_code == 204
    assert alice_calls.history(session) == []
    assert ok(alice_calls.get(session))["message_count"] == 0
    alice_calls.ask(session, "Which of these is lighter?")
    assert said(model.last["messages"]) == [("user", "Which of these is lighter?")]
    assert [message["position"] for message in alice_calls.history(session)] == [5, 6]


def test_clearing_twice_is_the_same_as_once(alice_calls: Caller) -> None:
    session = alice_calls.make()
    alice_calls.append(session, user("hello"))
    for _ in range(2):
        assert alice_calls.delete(f"{session}history/").status_code == 204
        assert not Message.objects.exists()


def test_a_question_without_a_session_makes_one_and_with_it_continues(
    alice_calls: Caller, model: Upstream
) -> None:
    first = ok(alice_calls.send(QUERY, {"message": "one", "agent": "words"}))
    second = ok(alice_calls.send(QUERY, {"message": "two", "session": first["session"]}))
    assert second["session"] == first["session"]
    assert (first["turn"]["number"], second["turn"]["number"]) == (1, 2)
    assert Session.objects.get().agent == "words"
    assert said(model.last["messages"])[0] == ("user", "one")


@pytest.mark.parametrize("id", ["foreign", "00000000-0000-0000-0000-000000000000", "not-an-id", "x" * 5000])
def test_a_session_that_is_not_yours_is_the_same_404_whatever_it_is(
    alice_calls: Caller, bob_calls: Caller, id: str
) -> None:
    hers = ok(alice_calls.send(SESSIONS), 201)["id"]
    ok(bob_calls.get(SESSIONS))
    before, answers = rows(), []
    for wanted in (hers if id == "foreign" else id, str(uuid4())):
        with CaptureQueriesContext(connection) as queries:
            answer = bob_calls.send(QUERY, {"message": "hello", "session": wanted})
        answers.append((answer.status_code, answer.content, len(queries)))
        assert bob_calls.send(f"{SESSIONS}{wanted}/query/", {"message": "hello"}).content == answer.content
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert rows() == before
    ok(alice_calls.send(QUERY, {"message": "hello", "session": hers}))


def test_offline_answers_say_so(alice_calls: Caller) -> None:
    answer = ok(alice_calls.send(QUERY, {"message": "My dog is called Rex."}))
    assert (answer["turn"]["offline"], answer["turn"]["model"]) == (True, "offline")
    assert "No model is configured" in answer["message"]["content"]
    again = ok(alice_calls.send(QUERY, {"message": "What is my dog called?", "session": answer["session"]}))
    assert "Rex" in again["message"]["content"]


def test_answers_of_a_model_do_not_say_offline(alice_calls: Caller, model: Upstream) -> None:
    turn = ok(alice_calls.send(QUERY, {"message": "hello you", "agent": "words"}))["turn"]
    assert (turn["offline"], turn["model"], turn["status"], turn["error"]) == (
        False,
        "words",
        "complete",
        None,
    )
    assert turn["usage"] == {"input_tokens": 2, "output_tokens": 5, "cached_tokens": 1}


def test_another_agent_answers_this_once(alice_calls: Caller, model: Upstream) -> None:
    session = alice_calls.make()
    assert alice_calls.ask(session, "hello", agent="words")["message"]["agent"] == "words"
    assert alice_calls.ask(session, "hello")["message"]["agent"] == "echo"
    assert ok(alice_calls.get(session))["agent"] == "echo"


# Sessions.


def test_a_session_is_what_it_was_given_and_says_where_it_stands(alice_calls: Caller) -> None:
    given = {"title": "Laptops", "metadata": {"team": "blue"}, "ref": "ticket-7", "user": "zoe"}
    made = ok(alice_calls.send(SESSIONS, given), 201)
    assert {name: made[name] for name in given} == given
    assert (made["state"], made["is_active"], made["message_count"], made["turn_count"]) == (
        "open",
        True,
        0,
        0,
    )
    assert ok(alice_calls.get(f"{SESSIONS}{made['id']}/")) == made
    alice_calls.append(f"{SESSIONS}{made['id']}/", user("hello"), assistant("hi"))
    now = ok(alice_calls.get(f"{SESSIONS}{made['id']}/"))
    assert (now["message_count"], now["turn_count"]) == (2, 1)
    assert now["last_activity"] > made["last_activity"]


def test_a_ref_gets_the_session_or_makes_it(alice_calls: Caller, bob_calls: Caller) -> None:
    made = ok(alice_calls.send(SESSIONS, {"ref": "ticket-7", "title": "first"}), 201)
    assert ok(alice_calls.send(SESSIONS, {"ref": "ticket-7", "title": "second"}))["id"] == made["id"]
    others = [
        ok(alice_calls.send(SESSIONS, {"ref": "ticket-7", "user": "zoe"}), 201),
        ok(alice_calls.send(SESSIONS, {"ref": "ticket-8"}), 201),
        ok(bob_calls.send(SESSIONS, {"ref": "ticket-7"}), 201),
    ]
    assert len({made["id"], *(other["id"] for other in others)}) == 4
    assert ok(alice_calls.get(f"{SESSIONS}{made['id']}/"))["title"] == "first"


def test_a_session_changes_where_it_is_told_to(alice_calls: Caller, model: Upstream) -> None:
    session = alice_calls.make(title="old", metadata={"a": "1", "b": "2"})
    before = ok(alice_calls.get(session))
    assert ok(alice_calls.send(session, {}, method="PATCH")) == before
    change = {"title": "", "metadata": {"c": "3"}, "agent": "words"}
    changed = ok(alice_calls.send(session, change, method="PATCH"))
    assert changed == {**before, **change} == ok(alice_calls.get(session))
    assert alice_calls.ask(session, "hello")["turn"]["agent"] == "words"


@pytest.mark.parametrize("state", ["archived", "closed"])
def test_a_session_that_is_not_open_takes_no_messages(alice_calls: Caller, state: str) -> None:
    session = alice_calls.make()
    assert not ok(alice_calls.send(session, {"state": state}, method="PATCH"))["is_active"]
    before = rows()
    for path, body in (("query/", {"message": "a"}), ("messages/", {"messages": [user("a")]})):
        refused = ok(alice_calls.send(session + path, body), 409)
        assert refused["error"]["code"] == "session_not_open"
    assert rows() == before
    assert alice_calls.history(session) == []
    ok(alice_calls.send(session, {"state": "open"}, method="PATCH"))
    alice_calls.append(session, user("a"))


def test_a_deleted_session_is_gone_with_all_that_was_in_it(alice_calls: Caller) -> None:
    kept, session = alice_calls.make(), alice_calls.make()
    alice_calls.append(kept, user("kept"))
    alice_calls.append(session, user("hello"), assistant("hi"), user("more"))
    assert alice_calls.delete(session).status_code == 204
    assert (Session.objects.count(), Turn.objects.count(), Message.objects.count()) == (1, 1, 1)
    for path in (session, f"{session}history/", f"{session}messages/1/", f"{session}turns/1/"):
        ok(alice_calls.get(path), 404)
    ok(alice_calls.send(session, method="DELETE"), 404)
    assert len(alice_calls.history(kept)) == 1


# The list of sessions.


@pytest.fixture
def forty_five(alice: User) -> list[str]:
    """The ids of Alice's sessions, most recently active first; some were active at the same moment."""
    person, now = Person.objects.get_or_create_by_ref(alice, ""), timezone.now()
    moments = [now - timedelta(minutes=number // 3) for number in range(45)]
    Session.objects.bulk_create(
        Session(owner=alice, person=person, agent="echo", last_activity=moment) for moment in moments
    )
    return [str(session.pk) for session in Session.objects.order_by("-last_activity", "id")]


def pages(caller: Caller, link: str | None, direction: str = "next") -> Iterator[Any]:
    while link:
        page = ok(caller.get(link))
        yield page
        link = page[direction]


def ids(page: Any) -> list[str]:
    return [session["id"] for session in page["results"]]


def test_the_list_is_paged_to_its_end_and_back(alice_calls: Caller, forty_five: list[str]) -> None:
    there = list(pages(alice_calls, f"{SESSIONS}?page_size=10"))
    assert [ids(page) for page in there] == [forty_five[at : at + 10] for at in range(0, 45, 10)]
    assert there[0]["previous"] is None
    back = list(pages(alice_calls, there[-1]["previous"], "previous"))
    assert [ids(page) for page in back] == [ids(page) for page in there[-2::-1]]
    again = list(pages(alice_calls, back[-1]["next"]))
    assert [ids(page) for page in again] == [ids(page) for page in there[1:]]


def test_sessions_that_move_meanwhile_are_not_seen_twice_and_hide_no_others(
    alice_calls: Caller, forty_five: list[str]
) -> None:
    first, *_ = pages(alice_calls, f"{SESSIONS}?page_size=10")
    moved = {forty_five[3], forty_five[30], forty_five[10]}
    for id in moved:
        alice_calls.append(f"{SESSIONS}{id}/", user("hello"))
    ok(alice_calls.send(forty := f"{SESSIONS}{forty_five[40]}/"), 405)
    assert alice_calls.delete(forty).status_code == 204
    rest = [id for page in pages(alice_calls, first["next"]) for id in ids(page)]
    seen = [*ids(first), *rest]
    assert len(seen) == len(set(seen))
    assert set(forty_five) - set(seen) == {forty_five[30], forty_five[10], forty_five[40]}
    assert set(ids(ok(alice_calls.get(SESSIONS, {"page_size": 3})))) == moved


def test_a_page_has_as_many_sessions_as_asked_for(alice_calls: Caller, forty_five: list[str]) -> None:
    sizes = {"": 20, "1": 1, "44": 44, "45": 45, "100": 45}
    for asked, size in sizes.items():
        page = ok(alice_calls.get(SESSIONS, {"page_size": asked} if asked else {}))
        assert len(page["results"]) == size
        assert (page["next"] is None) == (size == 45)


def test_the_list_costs_as_many_queries_for_one_session_as_for_many(
    alice_calls: Caller, forty_five: list[str]
) -> None:
    ok(alice_calls.get(SESSIONS))
    counts = set()
    for size in (1, 45):
        with CaptureQueriesContext(connection) as queries:
            ok(alice_calls.get(SESSIONS, {"page_size": size}))
        counts.add(len(queries))
    assert len(counts) == 1


def test_the_list_is_filtered(alice_calls: Caller, bob_calls: Caller, model: Upstream) -> None:
    bob_calls.make(title="One thing")
    made = {
        "plain": alice_calls.make(title="One thing"),
        "agent": alice_calls.make(agent="words", title="100% sure_of it"),
        "zoe": alice_calls.make(user="zoe", title="Another THING"),
        "closed": alice_calls.make(),
    }
    ok(alice_calls.send(made["closed"], {"state": "closed"}, method="PATCH"))
    seen = ok(alice_calls.get(made["agent"]))["last_activity"]
    expected: list[tuple[dict[str, str], set[str]]] = [
        ({}, set(made)),
        ({"agent": "words"}, {"agent"}),
        ({"agent": "nobody"}, set()),
        ({"state": "closed"}, {"closed"}),
        ({"state": "open"}, {"plain", "agent", "zoe"}),
        ({"q": "thing"}, {"plain", "zoe"}),
        ({"q": "%"}, {"agent"}),
        ({"q": "_"}, {"agent"}),
        ({"user": "zoe"}, {"zoe"}),
        ({"user": "yan"}, set()),
        ({"active_after": seen}, {"zoe", "closed"}),
        ({"active_before": seen}, {"plain"}),
        ({"q": "thing", "user": "zoe", "state": "open"}, {"zoe"}),
    ]
    for parameters, names in expected:
        found = {f"{SESSIONS}{id}/" for id in ids(ok(alice_calls.get(SESSIONS, parameters)))}
        assert found == {made[name] for name in names}, parameters


def test_a_filter_holds_on_every_page(alice_calls: Caller) -> None:
    wanted = {alice_calls.make(user=name, title="a & b") for name in ("zoe", "yan", "zoe", "yan", "zoe")}
    found = [
        id for page in pages(alice_calls, f"{SESSIONS}?user=zoe&q=a+%26+b&page_size=1") for id in ids(page)
    ]
    assert len(found) == len(set(found)) == 3
    assert {f"{SESSIONS}{id}/" for id in found} < wanted


# People behind a key (rule 11).


def test_a_session_of_another_person_is_404_when_a_person_is_named(alice_calls: Caller) -> None:
    zoes, nobodys = alice_calls.make(user="zoe"), alice_calls.make()
    yan, zoe = {"X-Convo-User": "yan"}, {"X-Convo-User": "zoe"}
    unknown = alice_calls.get(f"{SESSIONS}{uuid4()}/", headers=yan).content
    for session in (zoes, nobodys):
        for answer in (
            alice_calls.get(session, headers=yan),
            alice_calls.get(f"{session}?user=yan"),
            alice_calls.get(f"{session}history/", headers=yan),
            alice_calls.send(f"{session}query/", {"message": "a", "user": "yan"}),
            alice_calls.send(f"{session}messages/", {"messages": [user("a")], "user": "yan"}),
            alice_calls.send(QUERY, {"message": "a", "session": session.split("/")[-2]}, headers=yan),
            alice_calls.delete(session, headers=yan),
        ):
            assert (answer.status_code, answer.content) == (404, unknown)
    assert not Message.objects.exists()
    assert ok(alice_calls.get(zoes, headers=zoe))["user"] == "zoe"
    assert ok(alice_calls.get(f"{zoes}?user=zoe"))["user"] == "zoe"


def test_a_key_that_names_nobody_reads_all_of_its_owners(alice_calls: Caller, bob_calls: Caller) -> None:
    all_of_hers = {alice_calls.make(user="zoe"), alice_calls.make(user="yan"), alice_calls.make()}
    bob_calls.make(user="zoe")
    assert {f"{SESSIONS}{id}/" for id in ids(ok(alice_calls.get(SESSIONS)))} == all_of_hers
    for session in all_of_hers:
        ok(alice_calls.get(session))


@pytest.mark.parametrize("how", ["body", "header", "address"])
def test_a_new_session_belongs_to_the_person_named(alice_calls: Caller, how: str) -> None:
    body = {"user": "zoe"} if how == "body" else {}
    headers = {"X-Convo-User": "zoe"} if how == "header" else {}
    for path, given in ((SESSIONS, {}), (QUERY, {"message": "hello"})):
        at = f"{path}?user=zoe" if how == "address" else path
        assert alice_calls.send(at, {**given, **body}, headers=headers).status_code in {200, 201}
    assert {session.person.ref for session in Session.objects.select_related("person")} == {"zoe"}
    assert Person.objects.count() == 1


def test_who_is_signed_in_speaks_for_themselves(alice: User) -> None:
    browser = Client()
    browser.force_login(alice)
    assert ok(browser.post(SESSIONS, {}, "application/json"), 201)["user"] == "me"


# The history.


@pytest.fixture
def long(alice_calls: Caller) -> str:
    """The address of a session with 25 messages."""
    session = alice_calls.make()
    alice_calls.append(session, *(user(f"message {number}") for number in range(1, 26)))
    return session


def positions(page: Any) -> list[int]:
    return [message["position"] for message in page["results"]]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_history_is_paged_to_its_end_and_back(alice_calls: Caller, long: str, order: str) -> None:
    there = list(pages(alice_calls, f"{long}history/?page_size=10&order={order}"))
    expected = list(range(1, 26)) if order == "asc" else list(range(25, 0, -1))
    assert [positions(page) for page in there] == [expected[:10], expected[10:20], expected[20:]]
    assert there[0]["previous"] is None
    back = list(pages(alice_calls, there[-1]["previous"], "previous"))
    assert [positions(page) for page in back] == [expected[10:20], expected[:10]]
    assert [positions(page) for page in pages(alice_calls, back[-1]["next"])] == [
        expected[10:20],
        expected[20:],
    ]


def test_the_history_begins_where_it_is_told_to(alice_calls: Caller, long: str) -> None:
    expected: list[tuple[dict[str, Any], list[int]]] = [
        ({}, list(range(1, 21))),
        ({"page_size": 100}, list(range(1, 26))),
        ({"page_size": 1}, [1]),
        ({"order": "desc", "page_size": 2}, [25, 24]),
        ({"after": 23}, [24, 25]),
        ({"after": 25}, []),
        ({"before": 3}, [1, 2]),
        ({"before": 20, "page_size": 2}, [18, 19]),
        ({"before": 20, "page_size": 2, "order": "desc"}, [19, 18]),
        ({"after": 5, "page_size": 2, "order": "desc"}, [7, 6]),
    ]
    for parameters, found in expected:
        assert positions(ok(alice_calls.get(f"{long}history/", parameters))) == found, parameters
    both = alice_calls.get(f"{long}history/", {"after": 5, "before": 9})
    assert (both.status_code, both.json()["error"]["param"]) == (400, "before")


def test_who_waits_for_new_messages_gets_only_those(alice_calls: Caller, long: str) -> None:
    assert positions(ok(alice_calls.get(f"{long}history/?after=25"))) == []
    alice_calls.append(long, assistant("new"))
    assert positions(ok(alice_calls.get(f"{long}history/?after=25"))) == [26]


def test_a_message_is_found_by_position_and_a_turn_by_number(alice_calls: Caller, model: Upstream) -> None:
    session = alice_calls.make(agent="words")
    answer = alice_calls.ask(session, "hello")
    question, reply = alice_calls.history(session)
    assert ok(alice_calls.get(f"{session}messages/1/")) == question
    assert ok(alice_calls.get(f"{session}messages/2/")) == reply == answer["message"]
    turn = ok(alice_calls.get(f"{session}turns/1/"))
    assert turn["messages"] == [question, reply]
    assert turn["manifest"]["parts"][-1]["part"] == "question"
    assert {name: turn[name] for name in answer["turn"]} == answer["turn"]
    assert question["turn"] == reply["turn"] == turn["number"] == 1


# Appending what was said elsewhere.


def test_a_user_message_opens_a_recorded_turn_and_what_follows_joins_it(
    alice_calls: Caller, model: Upstream
) -> None:
    session = alice_calls.make()
    batch = alice_calls.append(session, user("a"), assistant("b"), assistant("c"), user("d"))
    assert [message["turn"] for message in batch] == [1, 1, 1, 2]
    assert [message["turn"] for message in alice_calls.append(session, assistant("e"), user("f"))] == [2, 3]
    turn = ok(alice_calls.get(f"{session}turns/2/"))
    assert (turn["kind"], turn["status"], said(turn["messages"])) == (
        "recorded",
        "complete",
        [("user", "d"), ("assistant", "e")],
    )
    assert model.heard == []
    assert alice_calls.ask(session, "g")["turn"]["number"] == 4
    assert alice_calls.append(session, assistant("h"))[0]["turn"] == 5


def test_a_batch_is_appended_whole_or_not_at_all(alice_calls: Caller) -> None:
    session = alice_calls.make()
    before = rows()
    messages = [user(f"message {number}") for number in range(1000)]
    refused = alice_calls.send(f"{session}messages/", {"messages": [*messages[:999], {"role": "user"}]})
    assert ok(refused, 400)["error"]["param"] == "messages[999].content"
    assert rows() == before
    assert [message["position"] for message in alice_calls.append(session, *messages)] == list(range(1, 1001))


def test_tool_calls_are_kept_verbatim_and_sent_in_pairs(alice_calls: Caller, model: Upstream) -> None:
    session = alice_calls.make()
    other = {**CALL, "call_id": "call_2"}
    alice_calls.append(
        session, user("Rome?"), {"role": "assistant", "item": CALL}, {"role": "assistant", "item": other}
    )
    alice_calls.append(session, {"role": "tool", "item": {**RESULT, "call_id": "call_2", "output": ""}})
    alice_calls.append(session, {"role": "tool", "item": RESULT}, assistant("It is sunny."))
    stored = alice_calls.history(session)
    assert [message["item"] for message in stored[1:3]] == [CALL, other]
    assert (stored[4]["item"], stored[4]["content"], stored[4]["type"]) == (
        RESULT,
        "sunny",
        "function_call_output",
    )
    alice_calls.ask(session, "And tomorrow?")
    _, calls, *results, answer, _ = model.last["messages"]
    function = {"name": CALL["name"], "arguments": CALL["arguments"]}
    assert [(call["id"], call["function"]) for call in calls["tool_calls"]] == [
        ("call_1", function),
        ("call_2", function),
    ]
    assert [(result["tool_call_id"], result["content"]) for result in results] == [
        ("call_1", "sunny"),
        ("call_2", ""),
    ]
    assert answer["content"] == "It is sunny."


def test_a_call_without_its_result_is_kept_but_not_sent(alice_calls: Caller, model: Upstream) -> None:
    session = alice_calls.make()
    alice_calls.append(session, user("Rome?"), {"role": "assistant", "item": CALL})
    alice_calls.ask(session, "Hello?")
    assert all("tool_calls" not in message for message in model.last["messages"])
    assert alice_calls.history(session)[1]["item"] == CALL


def test_a_message_of_parts_is_sent_as_parts(alice_calls: Caller, model: Upstream) -> None:
    session = alice_calls.make()
    parts = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": DATA_URI}]
    stored = alice_calls.append(session, {"role": "user", "item": {"type": "message", "content": parts}})[0]
    assert (stored["content"], stored["item"]["content"]) == ("What is this?", parts)
    alice_calls.append(session, assistant("A cat."))
    alice_calls.ask(session, "Sure?")
    assert [part["type"] for part in model.last["messages"][0]["content"]] == ["text", "image_url"]


# The context, looked at before it is sent.


def test_the_context_is_what_the_model_then_hears_and_adds_up(alice_calls: Caller, model: Upstream) -> None:
    session = alice_calls.make(agent="told")
    for number in range(4):
        alice_calls.ask(session, f"question {number}")
    heard = len(model.heard)
    before = rows()
    context = ok(alice_calls.get(f"{session}context/", {"query": "and now?"}))
    assert (len(model.heard), rows()) == (heard, before)
    manifest = context["manifest"]
    assert manifest["total"] == sum(part["tokens"] for part in manifest["parts"]) + manifest["reply_overhead"]
    assert manifest["total"] <= manifest["budget"]
    assert [part["part"] for part in manifest["parts"]] == ["instructions", "verbatim", "question"]
    assert [row["messages"] for row in manifest["left_out"]] == [4]
    answer = alice_calls.ask(session, "and now?")
    assert model.last["messages"] == context["messages"]
    assert ok(alice_calls.get(f"{session}turns/{answer['turn']['number']}/"))["manifest"] == manifest


def test_a_context_too_small_for_the_question_is_413(alice_calls: Caller) -> None:
    session = alice_calls.make()
    refused = ok(alice_calls.get(f"{session}context/", {"query": "hello", "max_tokens": "5"}), 413)
    assert refused["error"]["code"] == "message_too_long"
    ok(alice_calls.get(f"{session}context/", {"query": "hello", "max_tokens": "5000"}))
    assert ok(alice_calls.get(f"{session}context/"))["manifest"]["total"] > 0


def test_a_question_too_long_for_its_agent_is_413_and_appends_nothing(
    alice_calls: Caller, model: Upstream
) -> None:
    session = alice_calls.make(agent="small")
    before = rows()
    refused = ok(alice_calls.send(f"{session}query/", {"message": "long " * 100}), 413)
    assert refused["error"]["code"] == "message_too_long"
    assert (rows(), model.heard) == (before, [])
    alice_calls.ask(session, "short")


def test_a_first_question_that_is_too_long_leaves_no_session_behind(
    alice_calls: Caller, model: Upstream
) -> None:
    before = rows(but=Person)
    ok(alice_calls.send(QUERY, {"message": "long " * 100, "agent": "small"}), 413)
    assert rows(but=Person) == before


# What the model server gets wrong: (agent, HTTP status, code, how the turn ended, what was kept).

FAILURES = [
    ("429", 429, "upstream_rate_limited", "failed", ""),
    ("500", 502, "upstream_unavailable", "failed", ""),
    ("401", 502, "upstream_rejected", "failed", ""),
    ("404", 502, "upstream_rejected", "failed", ""),
    ("html", 502, "upstream_protocol_error", "failed", ""),
    ("first-byte-never", 504, "upstream_timeout", "failed", ""),
    ("huge-chunk", 502, "truncated", "failed", ""),
    ("stall", 504, "upstream_timeout", "partial", "one two "),
    ("drop", 502, "truncated", "partial", "one two "),
    ("silent-end", 502, "truncated", "partial", "one two "),
    ("malformed", 502, "upstream_protocol_error", "partial", "one two "),
    ("error-in-stream", 502, "upstream_protocol_error", "partial", "one two "),
    ("endless", 502, "truncated", "partial", "again again "),
]
SUCCESSES = [
    ("empty-choices", "one two "),
    ("null-content", "one two "),
    ("refusal", "I can't help with that."),
    ("done-only", "one two "),
    ("length", "one two "),
]


def kept(caller: Caller, session: str, ending: str, partial: str) -> None:
    """The question is in the history, with what there was of the reply, and the session goes on."""
    question, *reply = caller.history(session)
    assert question["content"] == "hello"
    assert bool(reply) == (ending == "partial") == bool(partial)
    assert not reply or reply[0]["content"].startswith(partial)
    turn = ok(caller.get(f"{session}turns/1/"))
    assert (turn["status"], turn["messages"]) == (ending, [question, *reply])
    again = caller.ask(session, "again", agent="words")
    assert (again["turn"]["status"], again["turn"]["number"]) == ("complete", 2)


@pytest.mark.parametrize(("agent", "status", "code", "ending", "partial"), FAILURES)
def test_a_failed_answer_is_named_and_the_question_kept(
    alice_calls: Caller, model: Upstream, agent: str, status: int, code: str, ending: str, partial: str
) -> None:
    session = alice_calls.make()
    response = alice_calls.send(f"{session}query/", {"message": "hello", "agent": agent})
    told = ok(response, status)
    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert told["error"]["code"] == told["turn"]["error"]["code"] == code
    assert (told["turn"]["status"], f"{SESSIONS}{told['session']}/") == (ending, session)
    assert response.headers.get("Retry-After") == ("7" if agent == "429" else None)
    kept(alice_calls, session, ending, partial)


@pytest.mark.parametrize(("agent", "text"), SUCCESSES)
def test_an_odd_answer_is_still_an_answer(
    alice_calls: Caller, model: Upstream, agent: str, text: str
) -> None:
    answer = ok(alice_calls.send(QUERY, {"message": "hello", "agent": agent}))
    assert answer["message"]["content"] == text
    assert (answer["turn"]["error"] or {}).get("code") == ("max_output_tokens" if agent == "length" else None)


def test_a_model_server_that_is_not_there_is_named(alice_calls: Caller, settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    session = alice_calls.make()
    refused = ok(alice_calls.send(f"{session}query/", {"message": "hello"}), 502)
    assert refused["error"]["code"] == "upstream_unavailable"
    assert said(alice_calls.history(session)) == [("user", "hello")]


def test_tool_calls_of_a_model_are_kept_and_told(alice_calls: Caller, model: Upstream) -> None:
    session = alice_calls.make()
    answer = alice_calls.ask(session, "Paris and Rome?", agent="tool-call")
    items = [message["item"] for message in answer["messages"]]
    assert [(item["call_id"], json.loads(item["arguments"])) for item in items] == [
        ("call_paris", {"city": "Paris"}),
        ("call_rome", {"city": "Rome"}),
    ]
    results = [{**RESULT, "call_id": item["call_id"]} for item in items]
    alice_calls.append(session, *({"role": "tool", "item": result} for result in results))
    alice_calls.ask(session, "Well?")
    assert [message["role"] for message in model.last["messages"]] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
    ]


# Events, on a real server.


@pytest.fixture
def server(share: Serve, upstream: Upstream) -> Server:
    """A server with the agents of agents.yaml."""
    env = {f"CONVO_{name}": str(seconds) for name, seconds in SHORT.items()}
    return share(OPENAI_BASE_URL=upstream.url, CONVO_AGENTS_FILE=str(AGENTS), **env)


@pytest.fixture
def wire(server: Server, model: Upstream, alice_key: str) -> Iterator[httpx2.Client]:
    """Alice's client of that server."""
    with client_of(server, alice_key) as client:
        yield client


def frames(body: str) -> list[tuple[int, str, Any]]:
    """The events of a whole stream, whose grammar is checked to the letter; heartbeats are left out."""
    assert body.endswith("\n\n")
    found = []
    for frame in body.removesuffix("\n\n").split("\n\n"):
        if frame != ": hb":
            parts = re.fullmatch(r"id: (\d+)\nevent: ([a-z.]+)\ndata: ([^\r\n]+)", frame)
            assert parts, frame
            found.append((int(parts[1]), parts[2], json.loads(parts[3])))
    return found


def streamed(client: httpx2.Client, path: str, message: str, **fields: Any) -> list[tuple[int, str, Any]]:
    response = client.post(path, json={"message": message, "stream": True, **fields})
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/event-stream")
    assert response.headers["Cache-Control"] == "no-store"
    return frames(response.text)


def test_events_count_up_and_their_deltas_are_the_message(wire: httpx2.Client, alice_calls: Caller) -> None:
    session = alice_calls.make()
    events = streamed(wire, f"{session}query/", "hello", agent="words")
    assert [id for id, _, _ in events] == list(range(len(events)))
    assert [name for _, name, _ in events] == ["turn.started", *["delta"] * 5, "usage", "turn.completed"]
    started, *deltas, usage, completed = [data for _, _, data in events]
    assert f"{SESSIONS}{started['session']}/" == session
    assert completed["turn"]["id"] == started["turn"]["id"]
    assert completed["turn"]["usage"] == usage
    assert "".join(delta["text"] for delta in deltas) == completed["message"]["content"]
    assert completed["message"] == ok(alice_calls.get(f"{session}messages/2/"))
    turn = ok(alice_calls.get(f"{session}turns/1/"))
    assert completed["turn"] == {name: turn[name] for name in completed["turn"]}


@pytest.mark.parametrize("path", ["new", "old"])
@pytest.mark.parametrize(
    ("stream", "accept"), [(True, "*/*"), (False, "text/event-stream"), (True, "text/event-stream")]
)
def test_body_or_accept_header_asks_for_events(
    wire: httpx2.Client, alice_calls: Caller, path: str, stream: bool, accept: str
) -> None:
    at = QUERY if path == "new" else f"{alice_calls.make()}query/"
    response = wire.post(at, json={"message": "hello", "stream": stream}, headers={"Accept": accept})
    assert frames(response.text)[-1][1] == "turn.completed"
    whole = wire.post(at, json={"message": "hello", "stream": False})
    assert ok(whole)["turn"]["status"] == "complete"


@pytest.mark.parametrize(
    "text",
    [
        "x\n\nevent: admin\ndata: {}\n\n",
        "\r\n\r\nevent: admin\r\n\r\n",
        "id: 99\nretry: 1\n: hb\n\n",
        "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1eh",
        'data: {"a": "\\n\\n"}',
        "</script>\x7f",
        "👩‍👩‍👧 e\u0301 \u202e",
    ],
)
def test_no_text_of_a_model_ends_an_event(wire: httpx2.Client, alice_calls: Caller, text: str) -> None:
    session = alice_calls.make()
    events = streamed(wire, f"{session}query/", text)
    assert {name for _, name, _ in events} == {"turn.started", "delta", "usage", "turn.completed"}
    assert "".join(data["text"] for _, name, data in events if name == "delta") == f"user: {text}\n"
    assert alice_calls.history(session)[0]["content"] == text
    assert alice_calls.history(session)[1]["content"] == f"user: {text}\n"


@pytest.mark.parametrize(("agent", "status", "code", "ending", "partial"), FAILURES)
def test_a_stream_that_fails_ends_with_the_error_and_the_question_is_kept(
    wire: httpx2.Client,
    alice_calls: Caller,
    model: Upstream,
    agent: str,
    status: int,
    code: str,
    ending: str,
    partial: str,
) -> None:
    session = alice_calls.make()
    events = streamed(wire, f"{session}query/", "hello", agent=agent)
    assert [id for id, _, _ in events] == list(range(len(events)))
    (first, *deltas), (_, name, told) = events[:-1], events[-1]
    assert (first[1], {name for _, name, _ in deltas} <= {"delta"}, name) == ("turn.started", True, "error")
    assert (set(told["error"]), told["error"]["code"]) == ({"message", "type", "param", "code"}, code)
    assert told["turn"]["status"] == ending
    assert told["turn"]["error"].get("retry_after") == (7 if agent == "429" else None)
    text = "".join(data["text"] for _, _, data in deltas)
    assert (told["message"] or {"content": ""})["content"] == text
    assert text.startswith(partial)
    kept(alice_calls, session, ending, partial)


def test_a_second_question_waits_its_turn_and_reading_does_not(
    wire: httpx2.Client, server: Server, alice_key: str, alice_calls: Caller, upstream: Upstream
) -> None:
    session = alice_calls.make()
    body = {"message": "hello", "agent": "hold", "stream": True}
    with wire.stream("POST", f"{session}query/", json=body) as first, client_of(server, alice_key) as other:
        lines = first.iter_lines()
        while next(lines) != "event: delta":
            pass
        for path, given in (("query/", {"message": "two"}), ("messages/", {"messages": [user("two")]})):
            busy = other.post(session + path, json=given)
            assert ok(busy, 409)["error"]["code"] == "turn_in_progress"
            assert busy.json()["turn"]["number"] == 1
            assert 1 <= int(busy.headers["Retry-After"]) <= 15
        assert said(ok(other.get(f"{session}history/"))["results"]) == [("user", "hello")]
        assert ok(other.get(f"{session}turns/1/"))["status"] == "running"
        ok(other.get(f"{session}context/"))
        upstream.release()
        assert "event: turn.completed" in list(lines)
        assert ok(other.post(f"{session}query/", json={"message": "two"}))["turn"]["number"] == 2


@pytest.mark.parametrize("how", ["clear", "delete"])
def test_what_is_cleared_while_it_is_answered_stays_cleared(
    wire: httpx2.Client, server: Server, alice_key: str, alice_calls: Caller, upstream: Upstream, how: str
) -> None:
    session = alice_calls.make()
    body = {"message": "hello", "agent": "hold", "stream": True}
    with wire.stream("POST", f"{session}query/", json=body) as first, client_of(server, alice_key) as other:
        lines = first.iter_lines()
        while next(lines) != "event: delta":
            pass
        assert other.delete(f"{session}history/" if how == "clear" else session).status_code == 204
        upstream.release()
        assert "event: error" in list(lines)
    assert (Message.objects.count(), Turn.objects.count()) == (0, 0)
    if how == "clear":
        assert alice_calls.append(session, user("new"))[0]["position"] == 2


def test_a_ref_that_many_ask_for_at_once_makes_one_session(server: Server, alice_key: str) -> None:
    def make(_: int) -> str:
        with client_of(server, alice_key) as client:
            made = client.post(SESSIONS, json={"ref": "ticket-7", "user": "zoe"})
            assert made.status_code in {200, 201}, made.text
            return str(made.json()["id"])

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(make, range(16)))) == 1
    assert (Session.objects.count(), Person.objects.count()) == (1, 1)


# Its description for programs.


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The OpenAPI document, which is made without a warning and is valid."""
    file = tmp_path_factory.mktemp("schema") / "openapi.json"
    call_command(
        "spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", "--file", str(file)
    )
    return json.loads(file.read_text())


def documented(schema: Any) -> dict[str, Any]:
    """What is documented of each method, by the name of the route that its address leads to."""
    found = {}
    paths = {path: methods for path, methods in schema["paths"].items() if path.startswith("/api/")}
    for path, methods in paths.items():
        match = resolve(re.sub(r"\{(\w+)\}", "1", path))
        assert match.func is not errors.api_not_found, path
        found[match.view_name] = methods
    return found


def test_every_documented_address_exists_and_every_address_is_documented(schema: Any) -> None:
    there = {
        route.name: {*getattr(route.callback, "actions", ())} - {"head"}
        for route in router.urls
        if isinstance(route, URLPattern) and hasattr(route.callback, "actions")
    }
    assert {name: {*methods} for name, methods in documented(schema).items()} == there


def nullable(schema: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema says `null`."""
    if isinstance(schema, list):
        return [nullable(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: nullable(entry) for name, entry in schema.items() if name != "nullable"}
    return {**found, "type": [found["type"], "null"]} if schema.get("nullable") else found


def memory_answers(caller: Caller) -> dict[str, list[Any]]:
    made = caller.send(MEMORIES, {"text": "Lives in Oslo", "slot": "home"})
    memory = f"{MEMORIES}{ok(made, 201)['id']}/"
    return {
        "memory-list": [made, caller.get(MEMORIES), caller.send(MEMORIES)],
        "memory-detail": [
            caller.send(memory, {"text": "Lives in Bergen"}, method="PATCH"),
            caller.get(f"{memory}?explain=1"),
            caller.get(f"{MEMORIES}{uuid4()}/"),
        ],
        "memory-history": [caller.get(f"{memory}history/")],
        "memory-rules": [
            caller.get(f"{MEMORIES}rules/"),
            caller.send(f"{MEMORIES}rules/", {"rules": ["a"]}, method="PUT"),
        ],
        "memory-forget": [caller.send(f"{MEMORIES}forget/", {"all": True})],
    }


def test_answers_are_what_the_document_says(alice_calls: Caller, model: Upstream, schema: Any) -> None:
    session, messages = alice_calls.make(), {"messages": [user("a")]}
    answers = {
        "session-list": [alice_calls.send(SESSIONS), alice_calls.get(SESSIONS)],
        "query-list": [alice_calls.send(QUERY, {"message": "a"})],
        "session-detail": [
            alice_calls.get(session),
            alice_calls.send(session, {"title": "a"}, method="PATCH"),
            alice_calls.get(f"{SESSIONS}{uuid4()}/"),
        ],
        "session-query": [alice_calls.send(f"{session}query/", {"message": "a"})],
        "message-list": [alice_calls.send(f"{session}messages/", messages)],
        "message-detail": [alice_calls.get(f"{session}messages/1/")],
        "message-fork": [alice_calls.send(f"{session}messages/2/fork/")],
        "turn-detail": [alice_calls.get(f"{session}turns/1/")],
        "turn-context": [alice_calls.get(f"{session}turns/1/context/")],
        "search-list": [alice_calls.get("/api/v1/search/", {"q": "hello"})],
        "turn-regenerate": [alice_calls.send(f"{session}turns/1/regenerate/")],
        "turn-cancel": [alice_calls.send(f"{session}turns/1/cancel/")],
        "turn-activate": [alice_calls.send(f"{session}turns/1/activate/")],
        "turn-retry": [alice_calls.send(f"{session}turns/1/retry/")],
        "session-history": [alice_calls.get(f"{session}history/")],
        "session-context": [alice_calls.get(f"{session}context/")],
        **memory_answers(alice_calls),
    }
    said_of = documented(schema)
    for name, given in answers.items():
        for answer in given:
            method = answer.request["REQUEST_METHOD"].lower()
            told = said_of[name][method]["responses"][str(answer.status_code)]
            shape = nullable(told["content"]["application/json"]["schema"])
            jsonschema.validate(answer.json(), shape)
            assert set(shape["properties"]) >= set(answer.json()), name


def test_the_docs_load_nothing_from_elsewhere() -> None:
    client = Client()
    page = client.get("/api/docs/").content.decode()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 3
    assert not re.search(r'["\'(]\s*(?:https?:)?//', page)
    for path in loaded:
        file = client.get(path)
        assert (file.status_code, bool(file.getvalue())) == (200, True), path


def test_the_schema_is_served_as_it_is_generated(schema: Any) -> None:
    assert ok(Client().get("/api/schema/?format=json"))["paths"].keys() == schema["paths"].keys()


# Small courtesies.


def test_an_address_without_its_last_slash_is_helped_on(alice_calls: Caller) -> None:
    session = alice_calls.make()
    moved = alice_calls.get(f"{session}history?order=desc&page_size=5")
    assert (moved.status_code, moved["Location"]) == (301, f"{session}history/?order=desc&page_size=5")
    assert alice_calls.get(f"{SESSIONS}a%3Fb")["Location"] == f"{SESSIONS}a%3Fb/"
    refused = ok(alice_calls.send(f"{session}query", {"message": "a"}), 404)
    assert f"{session}query/" in refused["error"]["message"]
    assert not Message.objects.exists()


def test_an_address_where_nothing_is_says_so_in_the_envelope(alice_calls: Caller) -> None:
    for path in ("/api/", "/api/v1/nothing/", "/api/v2/sessions/", "/api/v1/sessions/a/b/c/"):
        assert ok(alice_calls.get(path), 404)["error"]["code"] == "not_found"


def test_answers_are_not_for_caches(alice_calls: Caller) -> None:
    session = alice_calls.make()
    for answer in (
        alice_calls.get(SESSIONS),
        alice_calls.get(session),
        alice_calls.get(f"{SESSIONS}x/"),
        Client().get(SESSIONS),
    ):
        assert answer["Cache-Control"] == "no-store"


def test_head_and_options_tell_what_there_is(alice_calls: Caller) -> None:
    session = alice_calls.make()
    assert alice_calls.head(session).content == b""
    assert alice_calls.options(f"{session}query/")["Allow"] == "POST, OPTIONS"
