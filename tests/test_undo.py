"""Deleting with undo: gone at once for everybody, back whole while there is time, and then gone for good."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from convo import database, history, jobs, memory, search, turns
from convo.context import replay
from convo.errors import ConvoError, NotFound, ResultDeleted, TurnInProgress
from convo.history import NewMessage
from convo.jobs import registry
from convo.memory.due import mark_due
from convo.models import (
    ME,
    Evidence,
    IndexedMessage,
    Message,
    Person,
    Session,
    Turn,
    TurnRequest,
    UserMemory,
)
from convo.turns import IdempotencyKey
from convo.verify import check
from tests.support.learning import known_memories
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db

FACT, QUERY = "My sister Mira is allergic to walnuts.", "What is Mira allergic to?"


@pytest.fixture
def upstream(settings: Settings, upstream: Upstream) -> Upstream:
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": "words-2"}
    return upstream


def conversation(owner: Any, *texts: str, **fields: Any) -> Session:
    session = turns.store_session(turns.new_session(owner, ME, **fields))[0]
    turns.record(session, [NewMessage(role="user", content=text) for text in texts])
    return session


def index() -> None:
    while search.index_turns():
        pass


def found(owner: Any, query: str = QUERY, **narrowed: Any) -> list[str]:
    person = Person.objects.get_or_create_by_ref(owner, ME)
    return [hit.content for hit in search.find(person, owner, query, **narrowed)]


def let_the_time_pass(session: Session) -> None:
    past = timezone.now() - timedelta(seconds=1)
    assert Session.objects.filter(pk=session.pk).update(expires_at=past)


def fact_from(session: Session, text: str = FACT) -> UserMemory:
    made = UserMemory.objects.create(
        person=session.person, kind="relation", text=text, text_key=text[:64], source="model"
    )
    first = Message.objects.transcript(session)[0]
    Evidence.objects.create(memory=made, message=first)
    return made


def test_a_discarded_conversation_is_nobodys_and_comes_back_as_it_was(alice: Any, bob: Any) -> None:
    session = conversation(alice, FACT, title="Mira", ref="mine")
    turns.discard(session)
    assert not Session.objects.owned_by(alice).exists()
    assert check(session.pk).findings == []  # type: ignore[union-attr]
    with pytest.raises(NotFound):
        turns.restore(session.pk, bob)
    turns.restore(session.pk, alice)
    back = Session.objects.owned_by(alice).get()
    assert (back.title, back.ref, back.state, back.expires_at) == ("Mira", "mine", "open", None)
    assert [row.content for row in Message.objects.transcript(back)] == [FACT]
    assert check(session.pk).findings == []  # type: ignore[union-attr]
    turns.record(back, [NewMessage(role="user", content="And on.")])


@pytest.mark.parametrize("state", ["open", "archived", "closed"])
def test_what_comes_back_is_in_the_state_that_it_had(alice: Any, state: str) -> None:
    session = conversation(alice, FACT)
    Session.objects.filter(pk=session.pk).change(state=state)
    turns.discard(session)
    assert turns.restore(session.pk, alice).state == state
    assert Session.objects.owned_by(alice).get().state == state


def test_when_the_time_is_over_it_cannot_be_brought_back_and_the_sweep_deletes_it(alice: Any) -> None:
    session, other = conversation(alice, FACT), conversation(alice, "Something else.")
    kept = conversation(alice, "Kept.")
    for one in (session, other):
        turns.discard(one)
    let_the_time_pass(session)
    with pytest.raises(NotFound):
        turns.restore(session.pk, alice)
    assert turns.delete_expired_sessions() == 1
    assert set(Session.objects.values_list("pk", flat=True)) == {other.pk, kept.pk}
    assert not Message.objects.filter(content=FACT).exists()
    assert turns.restore(other.pk, alice)
    assert turns.delete_expired_sessions() == 0


def test_the_time_to_undo_is_a_setting(alice: Any, settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "UNDO_SECONDS": 0}
    session = conversation(alice, FACT)
    turns.discard(session)
    jobs.sweep()
    assert not Session.objects.exists()


def test_the_sweep_leaves_what_was_brought_back_between_its_look_and_its_lock(alice: Any) -> None:
    session = conversation(alice, FACT)
    turns.discard(session)
    let_the_time_pass(session)
    over = Session.objects.expired()
    Session.objects.filter(pk=session.pk).update(state="open", state_before=None, expires_at=None)
    assert not history.remove_if(over, session.pk)
    assert Session.objects.owned_by(alice).exists()


def test_who_is_deleted_already_is_not_deleted_again(alice: Any) -> None:
    session = conversation(alice, FACT)
    turns.discard(session)
    with pytest.raises(NotFound):
        turns.discard(session)


@pytest.mark.parametrize(
    "write",
    [
        lambda session: turns.begin(session, [NewMessage(role="user", content="hi")]),
        lambda session: turns.begin(session, [NewMessage(role="user", content="hi")], on_busy="queue"),
        lambda session: turns.record(session, [NewMessage(role="user", content="hi")]),
        lambda session: history.clear(session.pk),
        lambda session: history.delete_message(session.pk, 1),
        lambda session: turns.regenerate(session, 1),
    ],
    ids=["begin", "queue", "record", "clear", "delete", "again"],
)
def test_nobody_writes_in_it(alice: Any, write: Callable[[Session], object]) -> None:
    session = conversation(alice, FACT)
    turns.discard(session)
    with pytest.raises(NotFound):
        write(session)
    # Nor does a change that was on its way bring it back.
    assert not Session.objects.filter(pk=session.pk).change(state="open", title="Mine")
    assert [row.content for row in session.messages.all()] == [FACT]
    turns.restore(session.pk, alice)
    turns.record(session, [NewMessage(role="user", content="hi")])


def test_a_state_that_says_half_of_it_is_refused_by_the_database(alice: Any) -> None:
    session = conversation(alice, FACT)
    rows = Session.objects.filter(pk=session.pk)
    for half in (
        {"state": "deleted"},
        {"state_before": "open"},
        {"state": "deleted", "state_before": "open"},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.update(**half)
    assert rows.update(state="deleted", state_before="open", expires_at=timezone.now())


def test_nothing_of_it_is_found_until_it_is_back(alice: Any) -> None:
    session, other = conversation(alice, FACT), conversation(alice, "I am allergic to cats.")
    index()
    assert FACT in found(alice)
    assert FACT in found(alice, after=timezone.now() - timedelta(days=1))
    turns.discard(session)
    assert found(alice) == ["I am allergic to cats."]
    assert found(alice, after=timezone.now() - timedelta(days=1)) == ["I am allergic to cats."]
    assert [hit.content for hit in search.find(None, alice, QUERY)] == ["I am allergic to cats."]
    turns.restore(session.pk, alice)
    assert FACT in found(alice)
    assert IndexedMessage.objects.filter(session=other).exists()


def test_where_much_was_said_nothing_of_it_is_found_either(
    alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A limit of ours, not a function: so few messages are not ranked one and all.
    monkeypatch.setattr("convo.search.candidates.SMALL_SCOPE", 0)
    session = conversation(alice, FACT)
    conversation(alice, "I am allergic to cats.")
    index()
    assert FACT in found(alice)
    turns.discard(session)
    assert FACT not in found(alice)
    turns.restore(session.pk, alice)
    assert FACT in found(alice)


def test_what_was_learned_from_nothing_else_is_told_to_no_model(alice: Any) -> None:
    session, other = conversation(alice, FACT), conversation(alice, "Mira again.")
    alone, both = fact_from(session), fact_from(session, "Mira is my sister.")
    Evidence.objects.create(memory=both, message=Message.objects.transcript(other)[0])
    told = turns.store_session(turns.new_session(alice, ME))[0]
    said = UserMemory.objects.create(
        person=session.person, kind="identity", text="I am Alice.", text_key="a", source="user"
    )

    def known() -> set[int]:
        return {row.pk for row in known_memories(session.person)}

    assert known() == {alone.pk, both.pk, said.pk}
    turns.discard(session)
    assert known() == {both.pk, said.pk}
    assert FACT not in str(turns.preview(told, QUERY).messages)
    assert memory.evidence(alone) == []
    turns.restore(session.pk, alice)
    assert known() == {alone.pk, both.pk, said.pk}
    assert FACT in str(turns.preview(told, QUERY).messages)
    turns.discard(session)
    let_the_time_pass(session)
    turns.delete_expired_sessions()
    assert set(UserMemory.objects.values_list("pk", flat=True)) == {both.pk, said.pk}


def test_no_model_thinks_about_it_until_it_is_back(
    alice: Any, upstream: Upstream, settings: Settings
) -> None:
    settings.CONVO = {**settings.CONVO, "BACKGROUND_MODEL": "learner"}
    session = conversation(alice, "I live in Oslo. [fact home: Lives in Oslo.]")
    turns.discard(session)
    turn = Turn.objects.get()
    jobs.sweep()
    memory.learn(turn.pk)
    memory.summarise(session.pk)
    assert upstream.heard == []
    turn.refresh_from_db()
    assert turn.learned_at is None
    turns.restore(session.pk, alice)
    jobs.sweep()
    assert upstream.heard
    assert [row.text for row in UserMemory.objects.all()] == ["Lives in Oslo."]


def test_the_background_is_not_behind_for_it(alice: Any) -> None:
    session = conversation(alice, *(f"I said this, number {n}." for n in range(60)))
    mark_due()

    def behind() -> list[str]:
        thinking = [kind for kind in registry.all_jobs() if kind.name in {"learn_by_rules", "summarise"}]
        return [kind.name for kind in thinking if list(kind.overdue(1))]

    assert sorted(behind()) == ["learn_by_rules", "summarise"]
    turns.discard(session)
    mark_due()
    assert behind() == []
    memory.summarise(session.pk)
    assert not session.summaries.exists()
    turns.restore(session.pk, alice)
    mark_due()
    assert sorted(behind()) == ["learn_by_rules", "summarise"]
    memory.summarise(session.pk)
    assert session.summaries.exists()


@pytest.mark.django_db(transaction=True)
def test_what_a_prompt_held_of_it_is_not_told_while_it_is_gone(alice: Any) -> None:
    session = conversation(alice, FACT)
    index()
    other = turns.store_session(turns.new_session(alice, ME))[0]
    claim = turns.begin(other, [NewMessage(role="user", content=QUERY)])
    async_to_sync(turns.answer)(claim)
    turn = Turn.objects.get(pk=claim.turn.pk)
    assert FACT in str(replay(turn))
    turns.discard(session)
    assert FACT not in str(replay(turn))
    turns.restore(session.pk, alice)
    assert FACT in str(replay(turn))


def test_its_ref_asked_for_anew_begins_anew(alice: Any) -> None:
    old = conversation(alice, FACT, ref="daily")
    again, is_new = turns.store_session(turns.new_session(alice, ME, ref="daily"))
    assert (again.pk, is_new) == (old.pk, False)
    turns.discard(old)
    anew, is_new = turns.store_session(turns.new_session(alice, ME, ref="daily"))
    assert is_new
    assert anew.pk != old.pk
    assert not anew.messages.exists()
    with pytest.raises(NotFound):
        turns.restore(old.pk, alice)


def test_a_retry_does_not_tell_what_was_deleted(alice: Any) -> None:
    key = IdempotencyKey(owner=alice, person=ME, key="once", fingerprint="f")
    question = [NewMessage(role="user", content=FACT)]
    claim = turns.begin(turns.new_session(alice, ME), question, key=key)
    session = Session.objects.get(pk=claim.session_id)
    turns.cancel(claim.turn)
    turns.discard(session)
    with pytest.raises(ResultDeleted):
        turns.begin(turns.new_session(alice, ME), question, key=key)
    turns.restore(session.pk, alice)
    with pytest.raises(turns.AlreadyProcessed):
        turns.begin(turns.new_session(alice, ME), question, key=key)


@pytest.mark.django_db(transaction=True)
def test_a_reply_that_is_being_written_stops_and_so_does_what_waits(alice: Any, settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "CANCEL_SECONDS": 0.1}
    session = turns.store_session(turns.new_session(alice, ME))[0]
    running = turns.begin(session, [NewMessage(role="user", content="first")])
    waiting = turns.begin(session, [NewMessage(role="user", content="second")], on_busy="queue")
    Turn.objects.filter(pk=running.turn.pk).update(
        draft="half a re", chunks=[{"index": 0, "kind": "message", "chunk_lengths": [9]}]
    )
    turns.discard(session)
    statuses = Turn.objects.filter(pk__in=[running.turn.pk, waiting.turn.pk]).order_by("pk")
    assert [turn.status for turn in statuses] == ["cancelled", "cancelled"]
    turns.restore(session.pk, alice)
    assert [row.content for row in Message.objects.transcript(session)] == ["first", "half a re"]
    assert check(session.pk).findings == []  # type: ignore[union-attr]


def test_programs_do_not_find_it_either(alice: Any, alice_key: str, client: Client) -> None:
    session = conversation(alice, FACT)
    index()
    head = {"Authorization": f"Bearer {alice_key}"}
    turn = Turn.objects.get()
    TurnRequest.objects.create(turn=turn)
    TurnRequest.objects.filter(turn=turn).update(surface="response")
    addresses = [
        f"/api/v1/sessions/{session.pk}/",
        f"/api/v1/sessions/{session.pk}/history/",
        f"/api/v1/sessions/{session.pk}/turns/1/",
        f"/api/v1/search/?q=Mira&session={session.pk}",
        f"/v1/conversations/conv_{session.pk.hex}",
        f"/v1/conversations/conv_{session.pk.hex}/items",
        f"/v1/responses/resp_{turn.key.hex}",
    ]
    assert {client.get(address, headers=head).status_code for address in addresses} == {200}
    turns.discard(session)
    assert {client.get(address, headers=head).status_code for address in addresses} == {404}
    assert client.get("/api/v1/search/?q=Mira", headers=head).json()["results"] == []
    assert client.get("/api/v1/sessions/", headers=head).json()["results"] == []
    patched = client.patch(addresses[0], {"state": "open"}, "application/json", headers=head)
    assert patched.status_code == 404
    assert client.delete(addresses[0], headers=head).status_code == 404
    turns.restore(session.pk, alice)
    assert {client.get(address, headers=head).status_code for address in addresses} == {200}


def test_to_find_those_on_their_way_out_no_table_is_read(alice: Any) -> None:
    """The indexes carry it: search and prompts ask for these every time, and hardly ever there is one."""
    session = conversation(alice, FACT)
    with CaptureQueriesContext(connection) as asked:
        list(Session.objects.discarded(alice))
        known_memories(session.person)
    plans = []
    for query in asked.captured_queries:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET LOCAL enable_seqscan = off")
            explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
            cursor.execute(f"{explain} {query['sql']}")
            plans.append(str(cursor.fetchall()))
    assert all("session_discarded" in plan for plan in plans), plans


def test_a_moment_is_the_databases(alice: Any) -> None:
    session = conversation(alice, FACT)
    Session.objects.filter(pk=session.pk).update(
        state="deleted", state_before="open", expires_at=database.seconds_from_now(-1)
    )
    with pytest.raises(ConvoError):
        turns.restore(session.pk, alice)


# Clearing with undo (Review 21).


def texts(session: Session) -> list[str]:
    session.refresh_from_db()
    return [row.content for row in Message.objects.transcript(session)]


def cleared_from(session: Session) -> Session:
    made = turns.clear(session)
    assert made is not None
    return made


def assert_whole(*sessions: Session) -> None:
    for session in sessions:
        assert check(session.pk).findings == []  # type: ignore[union-attr]


def test_a_cleared_conversation_stays_empty_and_gets_back_what_was_said(alice: Any, bob: Any) -> None:
    session = conversation(alice, FACT, "And she likes figs.", title="Mira", ref="mine")
    cleared = cleared_from(session)
    assert texts(session) == []
    assert (session.title, session.ref, session.state) == ("Mira", "mine", "open")
    assert (session.message_count, session.turn_count, session.token_count) == (0, 0, 0)
    assert list(Session.objects.owned_by(alice)) == [session]
    assert_whole(session, cleared)
    with pytest.raises(NotFound):
        turns.restore(cleared.pk, bob)
    assert turns.restore(cleared.pk, alice) == session
    assert texts(session) == [FACT, "And she likes figs."]
    assert not Session.objects.filter(pk=cleared.pk).exists()
    assert (session.message_count, session.turn_count) == (2, 2)
    assert_whole(session)
    # Undone once, it can't be undone again.
    with pytest.raises(NotFound):
        turns.restore(cleared.pk, alice)


def test_what_was_said_since_a_clear_continues_what_comes_back(alice: Any) -> None:
    session = conversation(alice, FACT)
    turns.record(session, [NewMessage(role="assistant", content="Noted.")])
    cleared = cleared_from(session)
    rows = turns.record(
        session, [NewMessage(role="user", content="Hello again."), NewMessage(role="user", content="Well?")]
    )
    # Positions and turns go on counting, so that the two stretches never meet.
    assert [row.position for row in rows] == [3, 4]
    assert texts(session) == ["Hello again.", "Well?"]
    assert_whole(session, cleared)
    turns.restore(cleared.pk, alice)
    assert texts(session) == [FACT, "Noted.", "Hello again.", "Well?"]
    assert_whole(session)
    # One branch: the first question since is no alternative to the first question of all.
    first, *_, since, last = session.turns.order_by("number")
    assert history.alternatives(session, [first, since]) == {
        first.pk: [first.number],
        since.pk: [since.number],
    }
    assert last.parent_id == since.pk
    told = str(turns.preview(session, "What now?").messages)
    assert all(text in told for text in (FACT, "Hello again."))


def test_nothing_of_what_was_cleared_is_told_found_or_learned_until_it_is_back(alice: Any) -> None:
    session = conversation(alice, FACT)
    other = conversation(alice, "I am allergic to cats.")
    fact = fact_from(session, "Mira is allergic to walnuts.")
    index()

    def is_known_anywhere() -> set[bool]:
        told = turns.store_session(turns.new_session(alice, ME))[0]
        return {
            FACT in found(alice),
            FACT in found(alice, after=timezone.now() - timedelta(days=1)),
            fact in known_memories(session.person),
            FACT in str(turns.preview(told, QUERY).messages),
            "walnuts" in str(turns.preview(session, QUERY).messages),
        }

    assert is_known_anywhere() == {True}
    cleared = cleared_from(session)
    assert is_known_anywhere() == {False}
    assert found(alice, session=session) == []
    assert "I am allergic to cats." in found(alice)
    assert memory.evidence(fact) == []
    turns.restore(cleared.pk, alice)
    session.refresh_from_db()
    assert is_known_anywhere() == {True}
    assert found(alice, session=session) == [FACT]
    assert_whole(session, other)


def test_when_the_time_is_over_what_was_cleared_is_removed_with_what_was_learned_from_it(alice: Any) -> None:
    session = conversation(alice, FACT)
    fact_from(session)
    index()
    cleared = cleared_from(session)
    let_the_time_pass(cleared)
    with pytest.raises(NotFound):
        turns.restore(cleared.pk, alice)
    assert turns.delete_expired_sessions() == 1
    assert list(Session.objects.all()) == [session]
    assert not any(table.objects.exists() for table in (Message, Turn, UserMemory, IndexedMessage))


@pytest.mark.parametrize("remove", [history.clear, history.remove], ids=["clear", "remove"])
def test_removing_for_good_takes_along_what_was_cleared_a_moment_ago(
    alice: Any, remove: Callable[[Any], None]
) -> None:
    session = conversation(alice, FACT)
    cleared = cleared_from(session)
    remove(session.pk)
    assert not Message.objects.exists()
    with pytest.raises(NotFound):
        turns.restore(cleared.pk, alice)


def test_only_what_was_cleared_last_can_come_back(alice: Any) -> None:
    session = conversation(alice, FACT)
    first = cleared_from(session)
    turns.record(session, [NewMessage(role="user", content="Later.")])
    second = cleared_from(session)
    assert not Message.objects.filter(content=FACT).exists()
    with pytest.raises(NotFound):
        turns.restore(first.pk, alice)
    turns.restore(second.pk, alice)
    assert texts(session) == ["Later."]
    assert turns.clear(turns.store_session(turns.new_session(alice, ME))[0]) is None


def test_a_learned_title_goes_and_comes_back_and_one_that_was_given_stays(alice: Any) -> None:
    session = conversation(alice, FACT, title="Walnuts")
    Session.objects.filter(pk=session.pk).update(title_turn=1)
    cleared = cleared_from(session)
    session.refresh_from_db()
    assert session.title == ""
    turns.restore(cleared.pk, alice)
    session.refresh_from_db()
    assert (session.title, session.title_turn) == ("Walnuts", 1)
    cleared = cleared_from(session)
    Session.objects.filter(pk=session.pk).change(title="Mine")
    turns.restore(cleared.pk, alice)
    session.refresh_from_db()
    assert session.title == "Mine"


def test_a_summary_of_what_was_said_since_does_not_stand_for_what_comes_back(alice: Any) -> None:
    session = conversation(alice, *(f"I said this, number {n}." for n in range(60)))
    memory.summarise(session.pk)
    old = session.summaries.get()
    cleared = cleared_from(session)
    assert not session.summaries.exists()
    turns.record(session, [NewMessage(role="user", content=f"I said that, number {n}.") for n in range(60)])
    memory.summarise(session.pk)
    new = session.summaries.get()
    turns.restore(cleared.pk, alice)
    assert_whole(session)
    assert {row.pk: row.stale for row in session.summaries.all()} == {old.pk: False, new.pk: True}


def test_a_temporary_chat_is_cleared_and_had_back_with_its_words(alice: Any) -> None:
    session = conversation(alice, FACT, storage="ephemeral")
    cleared = cleared_from(session)
    turns.record(session, [NewMessage(role="user", content="Since.")])

    def said(of: Session) -> list[str]:
        of.refresh_from_db()
        return [row.content for row in history.messages_upto(of, of.last_position)]

    assert said(session) == ["Since."]
    turns.restore(cleared.pk, alice)
    assert said(session) == [FACT, "Since."]
    assert_whole(session)
    let_the_time_pass(cleared_from(session))
    turns.delete_expired_sessions()
    assert said(session) == []
    turns.record(session, [NewMessage(role="user", content="Anew.")])
    assert said(session) == ["Anew."]


def test_programs_do_not_find_what_was_cleared_and_clear_for_good(
    alice: Any, alice_key: str, client: Client
) -> None:
    session = conversation(alice, FACT)
    index()
    turn = Turn.objects.get()
    TurnRequest.objects.create(turn=turn, surface="response")
    head = {"Authorization": f"Bearer {alice_key}"}
    addresses = [f"/api/v1/sessions/{session.pk}/turns/1/", f"/v1/responses/resp_{turn.key.hex}"]
    lists = {
        f"/api/v1/sessions/{session.pk}/history/": "results",
        f"/api/v1/search/?q=Mira&session={session.pk}": "results",
        "/api/v1/search/?q=Mira": "results",
        f"/v1/conversations/conv_{session.pk.hex}/items": "data",
    }

    def seen() -> tuple[set[int], set[bool]]:
        shown = {bool(client.get(at, headers=head).json()[name]) for at, name in lists.items()}
        return {client.get(at, headers=head).status_code for at in addresses}, shown

    assert seen() == ({200}, {True})
    cleared = cleared_from(session)
    assert seen() == ({404}, {False})
    assert client.get(f"/api/v1/sessions/{cleared.pk}/", headers=head).status_code == 404
    turns.restore(cleared.pk, alice)
    assert seen() == ({200}, {True})
    assert client.delete(f"/api/v1/sessions/{session.pk}/history/", headers=head).status_code == 204
    assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_clearing_stops_a_reply_that_is_being_written(alice: Any, settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "CANCEL_SECONDS": 0.1}
    session = turns.store_session(turns.new_session(alice, ME))[0]
    running = turns.begin(session, [NewMessage(role="user", content="first")])
    Turn.objects.filter(pk=running.turn.pk).update(
        draft="half a re", chunks=[{"index": 0, "kind": "message", "chunk_lengths": [9]}]
    )
    cleared = cleared_from(session)
    assert texts(session) == []
    assert Turn.objects.get().status == "cancelled"
    # Nor is anything put back beside a reply that is being written.
    beside = turns.begin(session, [NewMessage(role="user", content="second")])
    with pytest.raises(TurnInProgress):
        turns.restore(cleared.pk, alice)
    turns.cancel(beside.turn)
    turns.restore(cleared.pk, alice)
    assert texts(session) == ["first", "half a re", "second"]
    assert_whole(session)


def test_the_page_offers_to_undo_a_clear(alice: Any, client: Client) -> None:
    client.force_login(alice)
    session = conversation(alice, FACT)
    page = client.post(f"/c/{session.pk}/clear/", follow=True)
    assert FACT not in page.text
    assert "Cleared 1 message." in page.text
    action = f"/c/{cleared_of(session).pk}/undo/"
    assert f'action="{action}"' in page.text
    back = client.post(action, follow=True)
    assert back.redirect_chain == [(f"/c/{session.pk}/", 302)]
    assert FACT in back.text


def cleared_of(session: Session) -> Session:
    return Session.objects.cleared_from(session).get()
