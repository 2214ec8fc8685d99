"""What people think of replies: said, changed, taken back, told with the turn, and gone with it."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from convo import history, turns
from convo.errors import ConvoError
from convo.models import Feedback, IdempotencyRecord, Session, Turn
from tests.conftest import Serve
from tests.faults import QUICK_LEASES
from tests.servers import client_of
from tests.support.rest import Caller, ok, user
from tests.support.rest_turns import frames, refused, streaming, turn_of
from tests.talk import ask
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

UP = {"value": "up", "note": "To the point."}
KEY = {"Idempotency-Key": "k"}
NOTHING = {"value": None, "note": "", "created_at": None}


@pytest.fixture(autouse=True)
def _instant(settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "OFFLINE_WORD_SECONDS": 0}


@pytest.fixture
def caller(alice_key: str) -> Caller:
    return Caller(alice_key)


@pytest.fixture
def session(caller: Caller) -> str:
    """The address of a session of Alice's with an answered question."""
    address = caller.make()
    caller.ask(address, "hello")
    return address


def feedback(session: str, number: int = 1) -> str:
    return f"{session}turns/{number}/feedback/"


def put(caller: Caller, address: str, body: Any = None, **options: Any) -> Any:
    return caller.send(address, UP if body is None else body, method="PUT", **options)


def without_time(told: Any) -> Any:
    return {name: told[name] for name in ("value", "note")}


def test_a_reply_tells_what_was_thought_of_it(caller: Caller, session: str) -> None:
    assert ok(caller.get(feedback(session))) == NOTHING
    assert ok(caller.get(f"{session}turns/1/"))["feedback"] is None
    given = ok(put(caller, feedback(session)))
    assert without_time(given) == UP
    assert ok(caller.get(feedback(session))) == ok(caller.get(f"{session}turns/1/"))["feedback"] == given
    changed = ok(put(caller, feedback(session), {"value": "down"}))
    assert without_time(changed) == {"value": "down", "note": ""}
    assert ok(caller.get(feedback(session))) == changed
    for _ in range(2):
        assert caller.delete(feedback(session)).status_code == 204
        assert ok(caller.get(feedback(session))) == NOTHING


def test_only_its_owner_sees_it_and_says_it(caller: Caller, bob_key: str, session: str) -> None:
    bob = Caller(bob_key)
    ok(put(caller, feedback(session)))
    strange = [bob.get(feedback(session)), put(bob, feedback(session)), bob.delete(feedback(session))]
    assert {refused(response, 404) for response in strange} == {"not_found"}
    assert without_time(ok(caller.get(feedback(session)))) == UP


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "value"),
        ({"value": "sideways"}, "value"),
        ({"value": 1}, "value"),
        ({"value": "up", "note": "x" * 2001}, "note"),
        ({"value": "up", "note": 5}, "note"),
        ({"value": "up", "stars": 5}, "stars"),
    ],
)
def test_what_is_no_feedback_is_refused(caller: Caller, session: str, body: Any, param: str) -> None:
    assert ok(put(caller, feedback(session), body), 400)["error"]["param"] == param
    assert not Feedback.objects.exists()
    ok(put(caller, feedback(session), {"value": "up", "note": "x" * 2000}))


def test_only_a_reply_that_has_ended_has_it(caller: Caller, session: str) -> None:
    recorded = caller.append(session, user("made elsewhere"))[0]["turn"]
    assert refused(put(caller, feedback(session, recorded)), 400) == "invalid_value"
    assert refused(put(caller, feedback(session, 77)), 404) == "not_found"
    turn = Turn.objects.get(number=1)
    Turn.objects.filter(pk=turn.pk).update(status=Turn.Status.QUEUED)
    unfinished = put(caller, feedback(session))
    assert refused(unfinished, 409) == "turn_in_progress"
    assert unfinished["Retry-After"]
    assert unfinished.json()["turn"]["number"] == 1
    Turn.objects.filter(pk=turn.pk).update(status=Turn.Status.CANCELLED)
    ok(put(caller, feedback(session)))


@pytest.mark.parametrize("what", ["messages/2/", "messages/1/", "turns/1/", "history/"])
def test_it_is_gone_with_the_reply(caller: Caller, session: str, what: str) -> None:
    caller.ask(session, "again")
    for number in (1, 2):
        ok(put(caller, feedback(session, number)))
    assert caller.delete(session + what).status_code == 204
    assert Feedback.objects.filter(turn__number=1).count() == 0
    # The other one is there, unless all is gone.
    assert Feedback.objects.count() == (what != "history/")


def test_a_reply_that_was_deleted_gets_none(caller: Caller, session: str) -> None:
    caller.delete(f"{session}turns/1/")
    assert refused(put(caller, feedback(session)), 404) == "not_found"
    assert ok(caller.get(feedback(session))) == NOTHING


def test_it_is_gone_with_the_session(caller: Caller, session: str) -> None:
    ok(put(caller, feedback(session)))
    assert caller.delete(session).status_code == 204
    assert not Feedback.objects.exists()


def test_neither_a_fork_nor_another_answer_takes_it_along(caller: Caller, session: str) -> None:
    ok(put(caller, feedback(session)))
    fork = ok(caller.send(f"{session}messages/2/fork/"), 201)["id"]
    assert ok(caller.get(f"/api/v1/sessions/{fork}/turns/1/"))["feedback"] is None
    again = ok(caller.send(f"{session}turns/1/regenerate/"))["turn"]
    assert again["feedback"] is None
    assert Feedback.objects.count() == 1


def test_sent_again_under_its_key_it_changes_nothing(caller: Caller, session: str) -> None:
    first = put(caller, feedback(session), headers=KEY)
    changed = ok(put(caller, feedback(session), {"value": "down"}))
    again = put(caller, feedback(session), headers=KEY)
    assert again["Idempotent-Replayed"] == "true"
    assert ok(again) == ok(first)
    assert ok(caller.get(feedback(session))) == changed
    assert (
        refused(put(caller, feedback(session), {"value": "down"}, headers=KEY), 422)
        == "idempotency_key_reused"
    )


def test_taken_back_again_under_its_key_a_later_one_stays(caller: Caller, session: str) -> None:
    ok(put(caller, feedback(session)))
    assert caller.delete(feedback(session), headers=KEY).status_code == 204
    later = ok(put(caller, feedback(session)))
    assert caller.delete(feedback(session), headers=KEY).status_code == 204
    assert ok(caller.get(feedback(session))) == later


def test_no_key_keeps_what_was_noted(caller: Caller, session: str) -> None:
    ok(put(caller, feedback(session), headers=KEY))
    assert "point" not in str(IdempotencyRecord.objects.get(key="k").body)
    assert Feedback.objects.get().note == UP["note"]


def test_where_nothing_written_is_kept_only_a_thumb_is(alice: User) -> None:
    session, _ = turns.store_session(turns.new_session(alice, "me", storage=Session.Storage.NONE))
    turn = ask(session).turn
    with pytest.raises(ConvoError, match="Leave the note out"):
        turns.save_feedback(turn, "up", "secret")
    turns.save_feedback(turn, "down")
    assert [(row.value, row.note) for row in Feedback.objects.all()] == [(-1, "")]


def test_it_costs_no_query_of_its_own(caller: Caller, session: str) -> None:
    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            ok(caller.get(f"{session}turns/1/"))
        assert not [query for query in queries if 'FROM "convo_feedback"' in query["sql"]]
        return len(queries)

    before = cost()
    ok(put(caller, feedback(session)))
    assert cost() == before


def test_a_list_tells_it_of_many_turns_at_once(caller: Caller, session: str) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            told = ok(caller.get(f"{session}turns/"))["results"]
        assert [turn["number"] for turn in told] == sorted(numbers, reverse=True)
        assert [turn["feedback"]["value"] for turn in told] == ["up"] * len(numbers)
        return len(queries)

    numbers = [1]
    ok(put(caller, feedback(session)))
    before = cost()
    for number in (2, 3):
        numbers.append(number)
        caller.ask(session, "again")
        ok(put(caller, feedback(session, number)))
    assert cost() == before


def test_a_list_of_turns_is_read_page_by_page(caller: Caller, session: str) -> None:
    for _ in range(2):
        caller.ask(session, "again")
    page = ok(caller.get(f"{session}turns/?page_size=2"))
    assert [turn["number"] for turn in page["results"]] == [3, 2]
    assert "manifest" not in page["results"][0]
    last = ok(caller.get(page["next"]))
    assert [turn["number"] for turn in last["results"]] == [1]
    assert last["next"] is None
    assert ok(caller.get(last["previous"]))["results"] == page["results"]


def test_a_stream_that_is_told_again_tells_of_it(
    share: Serve, upstream: Upstream, alice_key: str, caller: Caller
) -> None:
    server = share(**QUICK_LEASES, OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold")
    with client_of(server, alice_key) as client:
        with streaming(client) as (started, lines):
            upstream.release()
            assert '"feedback": null' in [line for line in lines if '"finished_at"' in line][-1]
        address = turn_of(started)
        ok(put(caller, f"{address}feedback/"))
        told = frames(client.get(f"{address}events/").text)[-1]
    assert told[1] == "turn.completed"
    assert without_time(told[2]["turn"]["feedback"]) == UP


def test_a_turn_that_is_gone_meanwhile_gets_none(alice: User) -> None:
    session, _ = turns.store_session(turns.new_session(alice, "me"))
    turn = ask(session).turn
    history.clear(session.pk)
    with pytest.raises(ConvoError, match="no turn 1"):
        turns.save_feedback(turn, "up")
    turns.delete_feedback(turn)
