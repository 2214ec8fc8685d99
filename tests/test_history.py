"""The transcript: what is appended stays in order, and what is deleted is gone."""

from typing import Any

import pytest
from django.core.cache import cache
from django.db import IntegrityError, transaction
from pytest_django import DjangoAssertNumQueries

from convo import history, turns
from convo.errors import NotFound
from convo.history import NewMessage
from convo.history.messages import costs
from convo.models import ME, Message, Person, Session, Summary, Turn

pytestmark = pytest.mark.django_db


@pytest.fixture
def session(alice: Any) -> Session:
    return Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, ME), agent="assistant"
    )


def said(count: int, start: int = 1) -> list[NewMessage]:
    return [
        draft
        for number in range(start, start + count)
        for draft in (
            NewMessage(role="user", content=f"question {number}"),
            NewMessage(role="assistant", content=f"reply {number}"),
        )
    ]


def fresh(session: Session) -> Session:
    return Session.objects.get(pk=session.pk)


def test_positions_count_up_and_the_counters_agree(session: Session) -> None:
    turns.record(session, said(2))
    turns.record(session, said(1, start=3))
    rows = list(Message.objects.transcript(session))
    assert [row.position for row in rows] == [1, 2, 3, 4, 5, 6]
    now = fresh(session)
    assert (now.message_count, now.turn_count, now.last_position, now.last_turn) == (6, 3, 6, 3)
    assert now.token_count == sum(row.tokens for row in rows) > 0


def test_clear_empties_the_transcript_and_positions_go_on(session: Session) -> None:
    turns.record(session, said(2))
    history.clear(session.pk)
    now = fresh(session)
    assert (now.message_count, now.turn_count, now.token_count, now.base_position) == (0, 0, 0, 4)
    assert now.epoch == 1
    assert not Message.objects.filter(session=session).exists()
    turns.record(session, said(1))
    assert list(Message.objects.transcript(session).values_list("position", flat=True)) == [5, 6]
    assert fresh(session).turns.get().number == 3


def test_clear_of_an_empty_session_changes_nothing(session: Session) -> None:
    history.clear(session.pk)
    assert fresh(session).epoch == 0


def test_clear_takes_summaries_and_evidence_along(session: Session) -> None:
    turns.record(session, said(1))
    Summary.objects.create(
        session=session, from_position=1, to_position=2, text="they talked", source="model"
    )
    history.clear(session.pk)
    assert not Summary.objects.filter(session=session).exists()


def test_a_deleted_message_leaves_a_tombstone_without_text(session: Session) -> None:
    turns.record(session, said(1))
    summary = Summary.objects.create(
        session=session, from_position=1, to_position=2, text="x", source="model"
    )
    assert Message.objects.get(session=session, position=2).content == "reply 1"
    history.delete_message(session.pk, 2)
    tomb = Message.objects.get(session=session, position=2)
    assert (tomb.content, tomb.item, tomb.active) == ("", None, False)
    assert tomb.erased_at is not None
    summary.refresh_from_db()
    assert summary.stale
    now = fresh(session)
    assert (now.epoch, now.message_count, now.last_position) == (1, 1, 2)
    history.delete_message(session.pk, 1)
    with pytest.raises(NotFound):
        history.delete_message(session.pk, 1)
    turns.record(session, said(1))
    assert list(Message.objects.transcript(session).values_list("position", flat=True)) == [3, 4]


def test_deleting_a_session_leaves_nothing(session: Session) -> None:
    turns.record(session, said(3))
    history.remove(session.pk)
    assert not (Session.objects.exists())
    assert not (Turn.objects.exists())
    assert not (Message.objects.exists())


@pytest.mark.parametrize(
    ("asked", "positions", "older", "newer"),
    [
        ({}, [1, 2, 3], False, True),
        ({"after": 3}, [4, 5, 6], True, True),
        ({"before": 4}, [1, 2, 3], False, True),
        ({"before": 8}, [5, 6, 7], True, True),
        ({"after": 7}, [8, 9, 10], True, False),
        ({"after": 3, "before": 6}, [4, 5], True, True),
        ({"after": 10}, [], False, False),
        ({"newest_first": True}, [10, 9, 8], True, False),
        ({"newest_first": True, "before": 8}, [7, 6, 5], True, True),
        ({"newest_first": True, "after": 5}, [8, 7, 6], True, True),
    ],
)
def test_a_page_is_what_lies_next_to_its_cursor(
    session: Session, asked: dict[str, Any], positions: list[int], older: bool, newer: bool
) -> None:
    turns.record(session, said(5))
    page = history.page(session, **{"newest_first": False, "size": 3, **asked})
    assert [row.position for row in page.messages] == positions
    assert (page.has_older, page.has_newer) == (older, newer)


def newest(session: Session) -> list[history.TranscriptMessage]:
    now = fresh(session)
    return history.look_up_newest(now.pk, now.version)[0]


def recent(session: Session, *, pairs: int | None, budget: int = 10**6) -> list[str]:
    found = history.recent_messages(session.pk, newest(session), pairs=pairs, budget=budget, model="")
    return [line.content for line in found]


def test_recent_reads_as_many_pairs_as_asked_for(session: Session) -> None:
    turns.record(session, said(5))
    assert recent(session, pairs=2) == ["question 4", "reply 4", "question 5", "reply 5"]
    assert recent(session, pairs=None)[0] == "question 1"


def test_recent_reads_past_the_hot_window_when_more_is_asked_for(session: Session) -> None:
    turns.record(session, said(100))
    assert recent(session, pairs=80)[0] == "question 21"
    assert len(recent(session, pairs=None)) == 200


def test_recent_stops_at_the_budget_and_so_reads_no_more_of_a_long_transcript(
    session: Session, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    turns.record(session, said(400))
    lines = newest(session)
    with django_assert_num_queries(0):
        found = history.recent_messages(session.pk, lines, pairs=None, budget=50, model="")
    assert sum(costs(found[1:], "")) <= 50


def test_a_question_without_an_answer_does_not_use_up_a_pair(session: Session) -> None:
    turns.record(session, [*said(1), NewMessage(role="user", content="failed"), *said(1, start=2)])
    assert recent(session, pairs=2)[0] == "question 1"


def test_a_warm_window_needs_no_query(
    session: Session, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    turns.record(session, said(3))
    now = fresh(session)
    cold = history.look_up_newest(now.pk, now.version)[0]
    with django_assert_num_queries(0):
        assert history.look_up_newest(now.pk, now.version)[0] == cold


def test_another_version_never_finds_the_old_window(session: Session) -> None:
    turns.record(session, said(1))
    assert len(newest(session)) == 2
    turns.record(session, said(1, start=2))
    assert [line.content for line in newest(session)][-1] == "reply 2"
    history.clear(session.pk)
    assert newest(session) == []


@pytest.mark.parametrize(
    "garbage", ["", 7, {"name": "other", "messages": []}, {"messages": [{"x": 1}]}, [b"\xff"]]
)
def test_garbage_in_the_cache_is_a_miss(session: Session, garbage: Any) -> None:
    turns.record(session, said(1))
    good = newest(session)
    (key,) = [key.split(":", 2)[2] for key in cache._cache if str(session.pk) in key]  # type: ignore[attr-defined]
    cache.set(key, garbage)
    assert newest(session) == good


def test_the_database_itself_refuses_what_must_not_be(session: Session) -> None:
    def refused(**fields: Any) -> bool:
        values = {"session": session, "agent": "a", "status": "complete", "number": 9, **fields}
        try:
            with transaction.atomic():
                Turn.objects.create(**values)
        except IntegrityError:
            return True
        return False

    assert refused(status="running")  # no lease
    assert not refused(status="running", number=1, lease_until=session.created_at)
    assert refused(status="running", number=2, lease_until=session.created_at)  # a second one
    assert refused(number=1)  # a number twice
    turn = Turn.objects.get()
    message = {"session": session, "turn": turn, "role": "user"}
    Message.objects.create(position=1, item_id="msg_1", **message)
    for twice in ({"position": 1, "item_id": "msg_2"}, {"position": 2, "item_id": "msg_1"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Message.objects.create(**twice, **message)
    with pytest.raises(IntegrityError), transaction.atomic():
        Session.objects.filter(pk=session.pk).update(base_position=5)
