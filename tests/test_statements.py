"""The budgets of SQL statements: each hot operation sends at most so many.

Counted are the statements without those that delimit transactions. A later feature may raise a budget by at
most 2, with the statement that it needs named beside the number.
"""

from typing import Any

import pytest
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection
from pytest_django import Settings

from convo import memory, search, turns
from convo.history import NewMessage, window
from convo.models import Message, Person, Session, Turn
from tests.support.rest import Caller, assistant, ok, user
from tests.support.search import index_memories
from tests.support.statements import recorded_statements
from tests.upstream import Upstream


@pytest.fixture
def session(alice_key: str, transactional_db: None) -> str:
    """The address of a session of one of Alice's users, with a turn."""
    caller = Caller(alice_key)
    address = caller.make(user="ann")
    caller.append(address, user("Where is the harbour?"), assistant("In the south."))
    return address


def test_reading_a_session_takes_two_statements(session: str, alice_key: str) -> None:
    caller = Caller(alice_key)
    with recorded_statements() as statements:
        assert ok(caller.get(session))["message_count"] == 2
    # The key with its owner, and the session.
    assert len(statements) == 2, statements


def test_a_page_of_messages_takes_three_statements(session: str, alice_key: str) -> None:
    caller = Caller(alice_key)
    caller.append(session, user("And the station?"), assistant("In the north."))
    with recorded_statements() as statements:
        page = ok(caller.get(f"{session}history/", {"after": 1, "page_size": 2}))
    assert [entry["turn"] for entry in page["results"]] == [1, 2]
    assert page["next"]
    assert page["previous"]
    # The key, the session, and the messages with one more.
    assert len(statements) == 3, statements
    # Nothing of a turn is loaded that no message shows.
    assert not any(column in sql for sql in statements for column in ("manifest", "draft", "chunks"))


def test_the_context_takes_four_statements_and_fewer_once_the_window_is_cached(
    session: str, alice: AbstractBaseUser, alice_key: str
) -> None:
    memory.remember(Person.objects.get_or_create_by_ref(alice, "ann"), "Sails on Sundays", kind="fact")
    caller = Caller(alice_key)
    counts = []
    for _ in range(2):
        with recorded_statements() as statements:
            prompt = ok(caller.get(f"{session}context/"))
        assert [entry["content"] for entry in prompt["messages"][-2:]] == [
            "Where is the harbour?",
            "In the south.",
        ]
        counts.append(len(statements))
    # The key, the session, the newest messages unless they are cached, and the facts with the summary.
    assert counts == [4, 3], statements


def test_recall_takes_one_statement_more_in_a_scope_that_has_not_changed(
    session: str, alice: AbstractBaseUser, alice_key: str
) -> None:
    caller = Caller(alice_key)
    other = caller.make(user="ann")
    caller.append(other, user("The harbour has a lighthouse."), assistant("Good to know."))
    memory.remember(Person.objects.get_or_create_by_ref(alice, "ann"), "Sails on Sundays", kind="fact")
    search.index_turns()
    index_memories()
    question = {"query": "Is there a lighthouse at the harbour?"}
    ok(caller.get(f"{session}context/", question))
    with recorded_statements() as statements:
        prompt = ok(caller.get(f"{session}context/", question))
    assert "The harbour has a lighthouse." in str(prompt["messages"][-1])
    assert "recalled" in [part["part"] for part in prompt["manifest"]["parts"]]
    # The key, the session, the facts with the summary, and the recalled messages with the scope's version.
    assert len(statements) == 4, statements


def test_a_long_transcript_without_a_summary_is_read_in_two_steps(session: str, alice_key: str) -> None:
    caller = Caller(alice_key)
    caller.append(session, *[user("x " * 40), assistant("y " * 40)] * 120)
    with recorded_statements() as statements:
        prompt = ok(caller.get(f"{session}context/", {"max_tokens": 10_000}))
    assert len(prompt["messages"]) > 3 * window.MAX_MESSAGES - 20
    # The window is not cached yet and ends within the budget: one more statement reads what precedes it.
    assert len(statements) == 5, statements
    assert sum("ORDER BY message.position DESC" in sql for sql in statements) == 2


# Appends. SQLite's WITH can't insert: the turn, its messages and the counters are three statements there.


def insert_statements() -> int:
    return 1 if connection.vendor == "postgresql" else 3


def test_appending_a_turn_takes_four_statements(session: str, alice_key: str) -> None:
    caller = Caller(alice_key)
    with recorded_statements() as statements:
        results = caller.append(session, user("Is it deep?"), assistant("Ten metres."))
    assert [(row["position"], row["turn"]) for row in results] == [(3, 2), (4, 2)]
    # The key, the session, the lock; the turn with its messages and the counters.
    assert len(statements) == 3 + insert_statements(), statements


def test_continuing_a_recorded_turn_takes_as_many(session: str, alice_key: str) -> None:
    caller = Caller(alice_key)
    Turn.objects.update(indexed_at=None)
    with recorded_statements() as statements:
        (row,) = caller.append(session, assistant("Below the hill."))
    assert (row["position"], row["turn"]) == (3, 1)
    assert len(statements) <= 3 + insert_statements(), statements


def test_an_idempotency_key_adds_two_statements(session: str, alice_key: str) -> None:
    caller = Caller(alice_key)
    body = {"messages": [user("Is it deep?"), assistant("Ten metres.")]}
    with recorded_statements() as statements:
        first = caller.send(f"{session}messages/", body, headers={"Idempotency-Key": "deep"})
    # The key is reserved before, and the response is stored with it afterwards.
    assert len(statements) == 5 + insert_statements(), statements
    again = caller.send(f"{session}messages/", body, headers={"Idempotency-Key": "deep"})
    assert ok(first, 201) == ok(again, 201)
    assert Message.objects.count() == 4


def test_a_turn_begins_with_the_lock_and_one_statement(session: str) -> None:
    row = Session.objects.get()
    with recorded_statements() as statements:
        claim = turns.begin(row, [NewMessage.from_user("Is it deep?")])
    assert (claim.turn.number, claim.upto, claim.question[0].position) == (2, 2, 3)
    assert Turn.objects.get(number=2).parent == Turn.objects.get(number=1)
    assert len(statements) == 1 + insert_statements(), statements


# Questions. On SQLite, whose WITH can't insert, a question and its reply take three statements more.


@pytest.fixture
def model(settings: Settings, upstream: Upstream, transactional_db: None) -> Upstream:
    """A model that says fifty words, while no heartbeat is due."""
    rare = {"HEARTBEAT_SECONDS": 1000.0, "CHECKPOINT_SECONDS": 1000.0}
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": "words-50", **rare}
    return upstream


def storing_statements() -> int:
    """The statements that store a question and its reply, each with its turn and the session's counters."""
    return 3 if connection.vendor == "postgresql" else 6


def test_a_question_takes_nine_statements(session: str, alice_key: str, model: Upstream) -> None:
    caller = Caller(alice_key)
    caller.ask(session, "Is it far?")
    with recorded_statements() as statements:
        answer = caller.ask(session, "Is it deep?")
    assert answer["message"]["content"].startswith("word1 word2")
    assert answer["turn"]["usage"]["output_tokens"] == 50
    assert "word50" in str(model.last["messages"])
    # The key, the session, the lock, the summary with the facts, the recalled messages with the version of
    # their scope, which appends alone do not change, and the lock at the end.
    assert len(statements) <= 6 + storing_statements(), statements


def test_a_question_in_a_new_session_takes_six_statements(
    session: str, alice_key: str, model: Upstream
) -> None:
    caller = Caller(alice_key)
    body = {"message": "Is it deep?"}
    ok(caller.send("/api/v1/query/", body))
    with recorded_statements() as statements:
        answer = ok(caller.send("/api/v1/query/", body))
    assert answer["message"]["content"].startswith("word1 word2")
    assert Session.objects.get(pk=answer["session"]).message_count == 2
    # The key, the person, and the lock at the end; on SQLite, the session is inserted by itself. Its
    # transcript is empty: nothing is read for the prompt.
    assert len(statements) <= 3 + storing_statements() + (connection.vendor == "sqlite"), statements


# The OpenAI-compatible API. Its requests are stored with their turns, by one statement more.


def test_a_chat_in_a_session_takes_eight_statements(alice_key: str, model: Upstream) -> None:
    caller = Caller(alice_key)
    messages = [user("Where is the harbour?")]
    path, body = "/v1/chat/completions", {"model": "words-50", "messages": messages}
    ok(caller.send(path, body, headers={"X-Convo-Session": "new"}))
    first = caller.send(path, {**body, "model": "words-9"}, headers={"X-Convo-Session": "new"})
    headers = {"X-Convo-Session": first["X-Convo-Session"]}
    messages += [ok(first)["choices"][0]["message"], user("Is it deep?")]
    with recorded_statements() as statements:
        answer = ok(caller.send(path, body, headers=headers))
    assert answer["choices"][0]["message"]["content"].endswith("word50 ")
    assert Message.objects.count() == 6
    # The key, the session, the lock, and the lock at the end.
    assert len(statements) <= 5 + storing_statements(), statements


def test_a_regenerated_chat_takes_thirteen_statements(alice_key: str, model: Upstream) -> None:
    caller = Caller(alice_key)
    path, body = (
        "/v1/chat/completions",
        {"model": "words-50", "messages": [user("Where is the harbour?")]},
    )
    first = caller.send(path, {**body, "model": "words-9"}, headers={"X-Convo-Session": "new"})
    headers = {"X-Convo-Session": first["X-Convo-Session"]}
    ok(caller.send(path, body, headers=headers))
    for _ in range(2):
        with recorded_statements() as statements:
            answer = ok(caller.send(path, body, headers=headers))
        assert answer["choices"][0]["message"]["content"].endswith("word50 ")
    shown = Message.objects.filter(active=True).order_by("position")
    assert list(shown.values_list("position", flat=True)) == [1, 5]
    assert Session.objects.get().message_count == 2
    # The key, the session, the messages to compare with, the lock, the branch point, the question and the
    # request; at the end the lock, the branch point and the other branch.
    assert len(statements) <= 10 + storing_statements(), statements


def test_a_chat_that_is_passed_through_writes_its_usage_in_one_statement(
    alice_key: str, model: Upstream
) -> None:
    caller = Caller(alice_key)
    body = {"model": "words-50", "messages": [user("Where is the harbour?")]}
    ok(caller.send("/v1/chat/completions", body))
    with recorded_statements() as statements:
        answer = ok(caller.send("/v1/chat/completions", body))
    assert answer["usage"]["completion_tokens"] == 50
    assert list(Turn.objects.values_list("output_tokens", "status")) == [(50, "complete")] * 2
    # The key, the person, and the usage: SQLite, whose WITH can't insert, has its session before.
    assert len(statements) <= (3 if connection.vendor == "postgresql" else 4), statements


def test_a_response_takes_seven_statements_and_the_next_nine(alice_key: str, model: Upstream) -> None:
    caller = Caller(alice_key)
    body: dict[str, Any] = {"model": "words-50", "input": "Where is the harbour?"}
    ok(caller.send("/v1/responses", body))
    with recorded_statements() as statements:
        first = ok(caller.send("/v1/responses", body))
    # The key, the person, the request, and the lock at the end; on SQLite, also the chain.
    assert len(statements) <= 4 + storing_statements() + (connection.vendor == "sqlite"), statements
    with recorded_statements() as statements:
        second = ok(caller.send("/v1/responses", {**body, "previous_response_id": first["id"]}))
    assert second["output"][0]["content"][0]["text"].endswith("word50 ")
    assert len(model.last["messages"]) == 3
    # The key, the response before, the lock, the calls that wait, the request, and the lock at the end.
    assert len(statements) <= 6 + storing_statements(), statements
