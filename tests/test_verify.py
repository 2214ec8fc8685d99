"""`manage.py verify`: a clean database is clean, and whatever is broken in it is found and told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.migrations import RemoveConstraint
from django.db.migrations.loader import MigrationLoader
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from convo import history, turns, verify
from convo.history import NewMessage, TranscriptMessage
from convo.models import ME, Evidence, Message, Person, Session, Summary, Turn, UserMemory, new_item_id
from tests.support.leases import expire
from tests.talk import ask, begin, delete_last, finish, user
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "seen"}


@pytest.fixture
def model(settings: Settings, upstream: Upstream) -> Callable[[str], None]:
    """Choose what the model server does; three words at first."""

    def choose(name: str) -> None:
        settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": name}

    choose("words-3")
    return choose


@pytest.fixture
def session(alice: Any, model: Callable[[str], None]) -> Session:
    """Two questions with their replies: positions 1 to 4 in turns 1 and 2."""
    made = Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, ME), agent="assistant"
    )
    ask(made, "first")
    ask(made, "second")
    return made


def found() -> list[str]:
    """What is broken anywhere."""
    return [f"{one.location}: {one.problem}" for checked in verify.check_all() for one in checked.findings]


def tool_pair() -> list[NewMessage]:
    return [
        *user("look"),
        NewMessage(role="assistant", type="function_call", name="look", item=CALL),
        NewMessage(role="tool", type="function_call_output", content="seen", item=OUTPUT),
        NewMessage(role="assistant", content="done"),
    ]


# Whatever people do leaves a database in which nothing is broken.


def test_a_database_that_everything_was_done_to_is_clean(
    session: Session, model: Callable[[str], None]
) -> None:
    turns.record(session, tool_pair())
    finish(turns.regenerate(session, 2))
    finish(turns.regenerate(session, 2, user("edited")))
    turns.activate(session, 2)
    ask(session, "third")
    history.fork(session, 2)
    history.delete_turn(session.pk, 2)
    delete_last(session)
    history.fork(session, session.base_position + 1)
    model("500")
    ask(session, "fails")
    finish(turns.regenerate(session, 7))
    model("words-3")
    finish(turns.regenerate(session, 7))
    begin(session, "runs")
    begin(session, "waits", on_busy="queue")
    assert found() == []
    history.clear(session.pk)
    turns.record(session, tool_pair())
    assert found() == []


def test_a_reply_that_is_deleted_leaves_its_question_between_its_neighbours(session: Session) -> None:
    finish(turns.regenerate(session, 2))
    ask(session, "third")
    history.delete_message(session.pk, 5)
    assert found() == []


def test_dead_turns_leave_nothing_broken(session: Session) -> None:
    expire(begin(session, "dead"), draft="half a re")
    expire(begin(session, "dead in the queue", on_busy="queue"))
    ask(session, "next")
    assert found() == []


def test_an_empty_reply_is_no_lost_reply(session: Session) -> None:
    claim = begin(session, "say nothing")
    with transaction.atomic():
        history.end_turn(history.lock(session.pk), claim.turn, history.TurnEnding(status="complete"))
    assert found() == []


def test_the_call_at_the_very_end_may_wait_for_its_result(
    session: Session, model: Callable[[str], None]
) -> None:
    model("tool-call")
    calls = ask(session, "weather?").messages
    assert [call.type for call in calls] == ["function_call"] * 2
    assert found() == []
    output = {**OUTPUT, "call_id": calls[1].call_id}
    turns.record(session, [NewMessage(role="tool", type="function_call_output", item=output)])
    assert found() == []
    turns.record(session, user("never mind"))
    assert found() == [f"position {calls[0].position}: a tool call without its result"]


def test_a_session_that_keeps_nothing_is_clean_until_something_of_it_is_kept(
    alice: Any, model: Callable[[str], None]
) -> None:
    model("tool-call")
    finish(turns.begin(turns.new_chain(alice, "", storage="none"), user("weather?")))
    assert found() == []
    Turn.objects.filter(session__storage="none").update(input=["weather?"])
    told = "its question or its reply is stored, though its session stores nothing"
    assert found() == [f"turn 1: {told}"]


# One deliberate breakage each.


def at(position: int) -> Any:
    return Message.objects.filter(position=position)


def turn(number: int) -> Any:
    return Turn.objects.filter(number=number)


def late(session: Session) -> None:
    long_ago = timezone.now() - timedelta(minutes=5)
    begin(session, "dead")
    turn(3).update(lease_until=long_ago)


def summarise(session: Session, first: int, last: int) -> None:
    Summary.objects.create(
        session=session, from_position=first, to_position=last, text="They talked.", source="model"
    )


def remember(person: Person, message: Message) -> None:
    memory = UserMemory.objects.create(person=person, kind="fact", text="x", text_key="k", source="user")
    Evidence.objects.create(memory=memory, message=message)


def on_a_tombstone(session: Session) -> None:
    gone = at(4).get()
    history.delete_message(session.pk, 4)
    remember(session.person, gone)


def of_another_person(session: Session) -> None:
    remember(Person.objects.get_or_create_by_ref(session.owner, "customer-7"), at(1).get())


def moved_to_another_owner(session: Session) -> None:
    Person.objects.filter(pk=session.person_id).update(owner=_stranger(session))


def _stranger(session: Session) -> Any:
    return type(session.owner).objects.create_user("mallory")


def wrong_window(session: Session) -> None:
    now = Session.objects.get(pk=session.pk)
    lines = [TranscriptMessage.of(row) for row in Message.objects.transcript(now)]
    history.window.store(now.pk, now.version, lines[:-1])


def foreign_window(session: Session) -> None:
    other = Session.objects.create(owner=session.owner, person=session.person, agent="assistant")
    turns.record(other, [*user("first"), NewMessage(role="assistant", content="word1 word2 word3 ")] * 2)
    now = Session.objects.get(pk=session.pk)
    lines = [TranscriptMessage.of(row) for row in Message.objects.transcript(other)]
    history.window.store(now.pk, now.version, lines)


def second_reply(session: Session) -> None:
    finish(turns.regenerate(session, 2))
    at(4).update(active=True)


def into_another_session(session: Session) -> None:
    other = Session.objects.create(owner=session.owner, person=session.person, agent="assistant")
    turns.record(other, user("elsewhere"))
    first = Turn.objects.get(session=session, number=2)
    Message.objects.filter(session=other).update(turn=first)


def summary_of_a_tomb(session: Session) -> None:
    summarise(session, 1, 4)
    history.delete_message(session.pk, 4)
    Summary.objects.update(stale=False)


BREAKAGES: dict[str, tuple[Callable[[Session], Any], str]] = {
    "gap": (lambda s: at(3).update(position=9), "position 3: no row"),
    "outside": (lambda s: at(4).update(position=9), "position 9: outside of 1–4"),
    "below the base": (lambda s: Session.objects.update(base_position=1), "position 1: outside of 2–4"),
    "missing end": (lambda s: Session.objects.update(last_position=6), "positions 5–6: no row"),
    "messages": (lambda s: Session.objects.update(message_count=5), "message_count: is 5, but there are 4"),
    "tokens": (lambda s: Session.objects.update(token_count=1), "token_count: is 1, but there are"),
    "turns": (lambda s: Session.objects.update(turn_count=3), "turn_count: is 3, but there are 2"),
    "last turn": (lambda s: Session.objects.update(last_turn=1), "last_turn: is 1, but there is turn 2"),
    "text in a tomb": (
        lambda s: (history.delete_message(s.pk, 4), at(4).update(content="still here")),
        "position 4: deleted, but its text is still there",
    ),
    "item in a tomb": (
        lambda s: (history.delete_message(s.pk, 4), at(4).update(item=OUTPUT)),
        "position 4: deleted, but its text is still there",
    ),
    "active tomb": (
        lambda s: (history.delete_message(s.pk, 4), at(4).update(active=True)),
        "position 4: deleted, but still active",
    ),
    "call alone": (
        lambda s: (turns.record(s, tool_pair()), at(7).update(active=False)),
        "position 6: a tool call without its result",
    ),
    "result alone": (
        lambda s: (turns.record(s, tool_pair()), at(6).update(active=False)),
        "position 7: a tool's result without its call",
    ),
    "foreign turn": (into_another_session, "position 1: belongs to a turn of another session"),
    "split turn": (
        lambda s: (at(2).update(position=9), at(3).update(position=2), at(9).update(position=3)),
        "position 3: turn 1 is split by other turns",
    ),
    "lease left": (lambda s: turn(1).update(lease_until=timezone.now()), "turn 1: complete, but has a lease"),
    "late": (late, "turn 3: running, but its lease ran out 300 s ago"),
    "waiting without a lease": (
        lambda s: (begin(s), begin(s, on_busy="queue"), turn(4).update(lease_until=None)),
        "turn 4: queued without a lease",
    ),
    "draft left": (lambda s: turn(1).update(draft="wor"), "turn 1: complete, but its draft is still there"),
    "no question": (lambda s: at(1).delete(), "turn 1: complete without its question"),
    "empty turn": (lambda s: at(1).update(turn=turn(2).get()), "turn 1: complete without its question"),
    "waiting for nothing": (
        lambda s: (begin(s), begin(s, on_busy="queue"), turn(4).update(input=[])),
        "turn 4: queued without its question",
    ),
    "recorded nothing": (
        lambda s: (turns.record(s, user("hi")), at(5).delete()),
        "turn 3: recorded, but without a message",
    ),
    "no reply": (lambda s: at(2).delete(), "turn 1: complete, but its reply is missing"),
    "chunks": (
        lambda s: turn(1).update(chunks=[{"index": 0, "kind": "message", "chunk_lengths": [1, 2]}]),
        "turn 1: its chunks do not add up to its reply",
    ),
    "too many pieces": (
        lambda s: turn(1).update(
            chunks=[
                {"index": 0, "kind": "message", "chunk_lengths": [6, 6, 6]},
                {"index": 1, "kind": "function_call", "chunk_lengths": [4]},
            ]
        ),
        "turn 1: its chunks do not add up to its reply",
    ),
    "later parent": (
        lambda s: turn(1).update(parent=turn(2).get()),
        "turn 1: continues turn 2, which is later",
    ),
    "foreign parent": (
        lambda s: (history.fork(s, 2), turn(2).update(parent=Turn.objects.latest("id"))),
        "turn 2: continues a turn of another session",
    ),
    "orphan": (
        lambda s: turn(2).update(parent=None),
        "turn 2: continues nothing, but turn 1 is shown before it",
    ),
    "hidden parent": (
        lambda s: Message.objects.filter(turn__number=1).update(active=False),
        "turn 2: continues turn 1, but nothing is shown before it",
    ),
    "hidden question": (
        lambda s: at(3).update(active=False),
        "turn 2: its reply is shown, but not its question",
    ),
    "two replies": (second_reply, "turn 3: its reply and another one to the same question are both shown"),
    "owner": (moved_to_another_owner, "person: belongs to user"),
    "summary of nothing": (
        lambda s: summarise(s, 3, 5),
        "summary of 3–5: covers positions that do not exist",
    ),
    "summary of a tomb": (
        summary_of_a_tomb,
        "summary of 1–4: is not stale, though position 4 was deleted",
    ),
    "evidence gone": (on_a_tombstone, "position 4: deleted, but memory"),
    "foreign evidence": (of_another_person, "position 1: memory"),
    "stale window": (wrong_window, "hot window: differs from the database"),
    "foreign window": (foreign_window, "hot window: differs from the database"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_what_is_broken_is_found_and_told(session: Session, breakage: str) -> None:
    assert found() == []
    break_it, told = BREAKAGES[breakage]
    break_it(session)
    assert any(finding.startswith(told) for finding in found()), found()


# What the database itself refuses, as long as it has its constraints.


@contextmanager
def without(model: str, name: str) -> Iterator[None]:
    """A database that has lost this constraint; it is made again for the other tests."""
    before = MigrationLoader(connection).project_state()
    after, removal = before.clone(), RemoveConstraint(model, name)
    removal.state_forwards("convo", after)
    with connection.schema_editor() as editor:
        removal.database_forwards("convo", editor, before, after)
    try:
        yield
    finally:
        Session.objects.all().delete()
        with connection.schema_editor() as editor:
            removal.database_backwards("convo", editor, after, before)


def test_two_rows_at_one_position_are_told(session: Session) -> None:
    with without("message", "one_message_per_position"):
        at(2).update(position=1)
        assert {"position 1: more than one row", "position 2: no row"} <= set(found())


def test_two_messages_of_one_id_are_told(session: Session) -> None:
    with without("message", "one_message_per_item_id"):
        item_id = new_item_id("message")
        Message.objects.filter(position__in=[2, 4]).update(item_id=item_id)
        assert found() == [f"item {item_id}: 2 messages have this id"]


def test_two_running_turns_are_told(session: Session) -> None:
    with without("turn", "one_running_turn_per_session"):
        begin(session)
        turn(2).update(status="running", lease_until=timezone.now() + timedelta(minutes=1))
        assert found() == ["turn 3: running at the same time as turn 2"]


def test_a_running_turn_without_a_lease_is_told(session: Session) -> None:
    with without("turn", "running_turn_has_lease"):
        begin(session)
        turn(3).update(lease_until=None)
        assert found() == ["turn 3: running without a lease"]


# The command, and what it costs.


def test_the_command_says_what_it_has_seen(session: Session) -> None:
    told = StringIO()
    call_command("verify", stdout=told)
    assert told.getvalue() == "1 sessions, 2 turns, 4 messages checked; all is well.\n"


def test_the_command_tells_each_finding_with_its_session(session: Session) -> None:
    other = Session.objects.create(owner=session.owner, person=session.person, agent="assistant")
    Session.objects.filter(pk=session.pk).update(turn_count=7, message_count=9)
    told = StringIO()
    with pytest.raises(CommandError, match="2 sessions, 2 turns, 4 messages checked; 2 findings") as ended:
        call_command("verify", stdout=told)
    assert ended.value.returncode == 1
    assert told.getvalue().splitlines() == [
        f"session {session.pk}, message_count: is 9, but there are 4",
        f"session {session.pk}, turn_count: is 7, but there are 2",
    ]
    call_command("verify", session=other.pk, stdout=StringIO())
    with pytest.raises(CommandError, match="2 findings"):
        call_command("verify", session=session.pk, stdout=StringIO())
    with pytest.raises(CommandError, match="There is no session"):
        call_command("verify", session=uuid4(), stdout=StringIO())


def test_it_reads_and_changes_nothing(session: Session) -> None:
    late(session)
    before = [list(rows.values()) for rows in (Session.objects, Turn.objects, Message.objects)]
    assert found()
    assert [list(rows.values()) for rows in (Session.objects, Turn.objects, Message.objects)] == before


def test_a_longer_session_takes_no_more_queries(session: Session) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            verify.check(session.pk)
        return len(captured)

    few = queries()
    for _ in range(5):
        turns.record(session, tool_pair()[:1])
        ask(session)
    assert queries() == few <= 12


def test_every_session_is_checked_however_many_there_are(alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("convo.verify.check"), "PAGE_SIZE", 5)
    person = Person.objects.get_or_create_by_ref(alice, ME)
    made = Session.objects.bulk_create(
        Session(owner=alice, person=person, agent="assistant", turn_count=number % 2) for number in range(12)
    )
    checked = list(verify.check_all())
    assert len({one.session_id for one in checked}) == len(checked) == len(made)
    assert sum(len(one.findings) for one in checked) == 6
