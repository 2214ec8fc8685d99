"""Editing history: another answer, another question, another branch; and what is deleted is gone."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from convo import history, jobs, turns
from convo.errors import BranchNotActive, NotFound, TurnInProgress
from convo.history import NewMessage
from convo.models import ME, Message, Person, Session, Summary, Turn, TurnRequest
from convo.turns import Claim
from tests.support.leases import expire
from tests.talk import ask, begin, finish, questions, said, user
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def session(alice: Any) -> Session:
    return Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, ME), agent="assistant"
    )


@pytest.fixture(autouse=True)
def model(settings: Settings, upstream: Upstream) -> Callable[[str], None]:
    """Choose what the model server does; three words at first."""

    def choose(name: str) -> None:
        settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": name}

    choose("words-3")
    return choose


def fresh(session: Session) -> Session:
    return Session.objects.get(pk=session.pk)


def shown(session: Session) -> list[tuple[int, int]]:
    """The positions of the transcript and their turns' numbers."""
    rows = Message.objects.transcript(session).select_related("turn")
    return [(row.position, row.turn.number) for row in rows]


def counts_agree(session: Session) -> bool:
    now, rows = fresh(session), list(Message.objects.transcript(session))
    return (now.message_count, now.token_count) == (len(rows), sum(row.tokens for row in rows))


def test_another_answer_leaves_out_nothing_of_what_stands_in_its_place(session: Session) -> None:
    ask(session, "first")
    ask(session, "second")
    ask(session, "third")
    manifest = finish(turns.regenerate(session, 2)).turn.manifest
    assert manifest
    assert [(part["part"], part.get("from"), part.get("to")) for part in manifest["parts"][1:]] == [
        ("verbatim", 1, 2),
        ("question", 3, 3),
    ]
    assert manifest["left_out"] == []


def test_another_answer_whose_process_died_is_given_to_the_same_question(
    session: Session, upstream: Upstream
) -> None:
    ask(session, "first", request=TurnRequest(background=True))
    ask(session, "second", request=TurnRequest(background=True))
    claim = turns.regenerate(session, 2)
    assert history.requeue(claim.turn)
    result = finish(Claim(turn=claim.turn, session_id=session.pk, agent=claim.agent, is_queued=True))
    assert result.turn.number == 3
    assert questions(upstream.last["messages"]) == ["first", "second"]


def test_another_answer_stands_in_the_place_of_the_old_one_which_is_kept(session: Session) -> None:
    ask(session, "first")
    ask(session, "second")
    epoch = fresh(session).epoch
    result = finish(turns.regenerate(session, 2))
    assert (result.turn.number, result.turn.question_turn.number) == (3, 2)  # type: ignore[union-attr]
    assert result.turn.parent_id == Turn.objects.get(number=2).parent_id
    assert shown(session) == [(1, 1), (2, 1), (3, 2), (5, 3)]
    assert Message.objects.get(position=4).content
    assert fresh(session).epoch == epoch + 1
    assert counts_agree(session)


def test_the_model_does_not_see_the_answer_that_is_replaced(session: Session, upstream: Upstream) -> None:
    ask(session, "first")
    finish(turns.regenerate(session, 1))
    assert [message["role"] for message in upstream.last["messages"]] == ["system", "user"]
    ask(session, "second")
    assert questions(upstream.last["messages"]) == ["first", "second"]


def test_an_old_turn_answered_again_takes_what_came_after_it_off_the_page(session: Session) -> None:
    ask(session, "first")
    ask(session, "second")
    finish(turns.regenerate(session, 1))
    assert shown(session) == [(1, 1), (5, 3)]
    assert Message.objects.filter(session=session).count() == 5


def test_an_edited_question_begins_a_branch_and_the_old_one_can_be_chosen_again(
    session: Session, upstream: Upstream
) -> None:
    ask(session, "first")
    ask(session, "secnod")
    ask(session, "third")
    finish(turns.regenerate(session, 2, user("second")))
    assert [line for line in said(session) if line.startswith("u:")] == ["u:first", "u:second"]
    assert questions(upstream.last["messages"]) == ["first", "second"]
    turns.activate(session, 2)
    assert [line for line in said(session) if line.startswith("u:")] == ["u:first", "u:secnod", "u:third"]
    turns.activate(session, 4)
    assert shown(session) == [(1, 1), (2, 1), (7, 4), (8, 4)]
    assert counts_agree(session)


def test_a_branch_goes_on_where_it_ends(session: Session, upstream: Upstream) -> None:
    ask(session, "first")
    ask(session, "second")
    finish(turns.regenerate(session, 1))
    ask(session, "after")
    assert questions(upstream.last["messages"]) == ["first", "after"]
    turns.activate(session, 1)
    ask(session, "back")
    assert questions(upstream.last["messages"]) == ["first", "second", "back"]


def test_an_answer_that_fails_leaves_the_old_one_where_it_is(
    session: Session, model: Callable[[str], None]
) -> None:
    ask(session, "first")
    before = shown(session)
    model("500")
    assert finish(turns.regenerate(session, 1)).turn.status == "failed"
    assert finish(turns.regenerate(session, 1, user("edited"))).turn.status == "failed"
    assert shown(session) == before
    assert counts_agree(session)


def test_a_failed_question_is_answered_without_being_asked_twice(
    session: Session, model: Callable[[str], None], upstream: Upstream
) -> None:
    ask(session, "first")
    model("500")
    ask(session, "second")
    model("words-3")
    finish(turns.regenerate(session, 2))
    assert questions(upstream.last["messages"]) == ["first", "second"]
    assert [line for line in said(session) if line.startswith("u:")] == ["u:first", "u:second"]


def test_a_failed_edit_can_be_tried_again(session: Session, model: Callable[[str], None]) -> None:
    ask(session, "first")
    model("500")
    finish(turns.regenerate(session, 1, user("edited")))
    model("words-3")
    finish(turns.regenerate(session, 2))
    assert [line for line in said(session) if line.startswith("u:")] == ["u:edited"]


def test_a_turn_of_a_branch_that_is_not_shown_must_be_activated_first(session: Session) -> None:
    ask(session, "first")
    ask(session, "second")
    finish(turns.regenerate(session, 1))
    with pytest.raises(BranchNotActive):
        turns.regenerate(session, 2)
    turns.activate(session, 1)
    assert finish(turns.regenerate(session, 2)).turn.status == "complete"


def test_a_turn_that_is_not_there_is_told(session: Session) -> None:
    ask(session)
    with pytest.raises(NotFound):
        turns.regenerate(session, 7)
    with pytest.raises(NotFound):
        turns.activate(session, 7)


def test_branches_wait_for_the_running_turn_too(session: Session) -> None:
    ask(session, "first")
    begin(session, "second")
    for change in (
        lambda: turns.regenerate(session, 1),
        lambda: turns.activate(session, 1),
        lambda: history.delete_message(session.pk, 1),
        lambda: history.delete_turn(session.pk, 1),
    ):
        with pytest.raises(TurnInProgress):
            change()


def test_deleting_a_question_deletes_its_replies(session: Session) -> None:
    ask(session, "first")
    ask(session, "second")
    finish(turns.regenerate(session, 1))
    turns.activate(session, 1)
    summary = Summary.objects.create(
        session=session, from_position=1, to_position=4, text="x", source="model"
    )
    history.delete_message(session.pk, 1)
    assert shown(session) == [(3, 2), (4, 2)]
    gone = Message.objects.filter(position__in=[1, 2, 5])
    assert list(gone.values_list("content", "item").distinct()) == [("", None)]
    assert all(row.erased_at for row in gone)
    summary.refresh_from_db()
    assert summary.stale
    assert counts_agree(session)
    with pytest.raises(NotFound):
        history.delete_message(session.pk, 1)


def test_deleting_a_reply_leaves_its_question(session: Session) -> None:
    ask(session, "first")
    history.delete_message(session.pk, 2)
    assert said(session) == ["u:first"]
    assert counts_agree(session)


@pytest.mark.parametrize("position", [2, 3])
def test_deleting_half_a_tool_pair_deletes_the_other_half(session: Session, position: int) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
    turns.record(
        session,
        [
            *user("look"),
            NewMessage(role="assistant", type="function_call", name="look", item=call),
            NewMessage(role="tool", type="function_call_output", content="seen", item=output),
            NewMessage(role="assistant", content="done"),
        ],
    )
    history.delete_message(session.pk, position)
    assert said(session) == ["u:look", "a:done"]
    assert not Message.objects.exclude(item=None).exists()


def test_deleting_a_turn_in_the_middle_leaves_the_others(session: Session, upstream: Upstream) -> None:
    for text in ("first", "second", "third"):
        ask(session, text)
    history.delete_turn(session.pk, 2)
    assert shown(session) == [(1, 1), (2, 1), (5, 3), (6, 3)]
    ask(session, "fourth")
    assert questions(upstream.last["messages"]) == ["first", "third", "fourth"]
    with pytest.raises(NotFound):
        history.delete_turn(session.pk, 2)


def test_a_fork_is_a_session_of_its_own_up_to_that_message(session: Session, upstream: Upstream) -> None:
    for text in ("first", "second", "third"):
        ask(session, text)
    ids = list(Message.objects.transcript(session).values_list("item_id", flat=True))
    fork = history.fork(session, 4)
    assert (fork.forked_from_id, fork.fork_position, fork.owner_id) == (session.pk, 4, session.owner_id)
    assert said(fork) == said(session)[:4]
    assert list(Message.objects.transcript(fork).values_list("item_id", flat=True)) == ids[:4]
    assert counts_agree(fork)
    ask(fork, "elsewhere")
    assert questions(upstream.last["messages"]) == ["first", "second", "elsewhere"]
    assert len(said(session)) == 6
    assert shown(fork) == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)]
    parents = dict(Turn.objects.filter(session=fork).values_list("number", "parent__number"))
    assert parents == {1: None, 2: 1, 3: 2}


def test_a_fork_takes_the_branch_that_is_shown_and_no_other(session: Session) -> None:
    ask(session, "first")
    finish(turns.regenerate(session, 1))
    ask(session, "second")
    fork = history.fork(session, 5)
    assert said(fork) == said(session)
    assert Message.objects.filter(session=fork).count() == len(said(session))
    assert counts_agree(fork)
    with pytest.raises(NotFound):
        history.fork(session, 2)


@pytest.mark.parametrize("edited", [[], user("edited")], ids=["regenerated", "edited"])
def test_another_answer_whose_process_died_takes_its_place_with_what_it_had(
    session: Session, edited: list[NewMessage]
) -> None:
    ask(session, "first")
    expire(turns.regenerate(session, 1, edited), draft="half")
    jobs.sweep()
    assert said(session) == ["u:edited" if edited else "u:first", "a:half"]
    assert counts_agree(session)


def test_a_question_that_never_left_the_queue_can_be_edited(session: Session) -> None:
    running = begin(session, "first")
    place = begin(session, "second", on_busy="queue")
    finish(running)
    expire(place)
    jobs.sweep()
    finish(turns.regenerate(session, 2, user("edited")))
    assert [line for line in said(session) if line.startswith("u:")] == ["u:first", "u:edited"]


def test_a_fork_goes_on_over_what_was_deleted_in_between(session: Session, upstream: Upstream) -> None:
    for text in ("first", "second", "third"):
        ask(session, text)
    history.delete_turn(session.pk, 2)
    fork = history.fork(session, 6)
    finish(turns.regenerate(fork, 3))
    assert questions(upstream.last["messages"]) == ["first", "third"]


def test_a_fork_takes_no_reply_along_that_it_does_not_show(session: Session) -> None:
    ask(session, "first")
    begin(session, "second")
    fork = history.fork(session, 3)
    copied = Turn.objects.get(session=fork, number=2)
    assert (copied.status, copied.lease_until, copied.chunks) == ("cancelled", None, [])
    assert ask(fork, "third").turn.status == "complete"


def test_a_failed_answer_is_no_branch_to_choose(session: Session, model: Callable[[str], None]) -> None:
    ask(session, "first")
    ask(session, "second")
    model("500")
    finish(turns.regenerate(session, 2))
    model("words-3")
    finish(turns.regenerate(session, 1))
    turns.activate(session, 1)
    assert shown(session) == [(1, 1), (2, 1), (3, 2), (4, 2)]
    turn = Turn.objects.get(number=2)
    assert history.alternatives(turn.session, [turn]) == {turn.pk: [2]}


def test_what_is_shown_can_be_answered_again_although_the_answer_before_it_is_deleted(
    session: Session, upstream: Upstream
) -> None:
    ask(session, "first")
    ask(session, "second")
    finish(turns.regenerate(session, 2))
    history.delete_message(session.pk, 5)
    ask(session, "third")
    finish(turns.regenerate(session, 4))
    assert questions(upstream.last["messages"]) == ["first", "second", "third"]


@pytest.mark.parametrize("question", ["", "edited"])
def test_a_branch_that_got_no_text_leaves_the_next_prompt_as_it_was(
    session: Session, model: Callable[[str], None], upstream: Upstream, question: str
) -> None:
    for text in ("first", "second", "third"):
        ask(session, text)
    model("500")
    failed = finish(turns.regenerate(session, 1, user(question) if question else []))
    assert failed.turn.status == "failed"
    model("words-3")
    ask(session, "fourth")
    assert questions(upstream.last["messages"]) == ["first", "second", "third", "fourth"]


def test_a_turn_ends_though_the_sessions_counters_are_too_low(session: Session) -> None:
    for question in ("first", "second", "third"):
        ask(session, question)
    Session.objects.filter(pk=session.pk).update(message_count=2, token_count=3)
    assert finish(turns.regenerate(session, 1, user("edited"))).turn.status == Turn.Status.COMPLETE
    assert counts_agree(session)
    assert fresh(session).turn_count == Turn.objects.filter(session=session).count() == 4


def test_a_turn_that_has_gone_is_said_to_have_gone(session: Session) -> None:
    turn_id = ask(session, "first").turn.pk + 1
    with pytest.raises(NotFound, match="no longer exists"):
        turns.regenerate(session, turn_id=turn_id)
