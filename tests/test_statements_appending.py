"""The statements that write by hand store what the ORM would, and see what others wrote before them."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from benchmarks.plans import explain_statements
from convo import history, turns
from convo.history import NewMessage, statements
from convo.history.statements import Draft, PromptRecord
from convo.models import AgentVersion, IdempotencyRecord, Message, Session, Turn
from tests.faults import wait_until
from tests.support.rows import MANIFEST, new_rows
from tests.support.threads import in_thread, waits_for_a_lock


def stored(rows: Sequence[Model], *but: str) -> list[dict[str, Any]]:
    """The columns of these rows as they are stored; a time is only compared to the minute."""
    pks = [row.pk for row in rows]
    found = type(rows[0])._default_manager.filter(pk__in=pks).order_by("pk").values()
    return [
        {name: f"{value:%H:%M}" if hasattr(value, "minute") else value for name, value in row.items()}
        | dict.fromkeys(["id", "key", "session_id", "turn_id", *but])
        for row in found
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(12))
def test_a_turn_is_stored_with_its_messages_as_the_orm_stores_them(session: Session, seed: int) -> None:
    other_session = Session.objects.create(owner=session.owner, person=session.person, agent="helper")
    turn, messages = new_rows(session, random.Random(seed), positions=range(seed % 4))
    statements.insert_turn(session, turn, messages, saves_counters=False)
    other_turn, other_messages = new_rows(other_session, random.Random(seed), positions=range(seed % 4))
    other_turn.save()
    Message.objects.bulk_create(other_messages)

    assert stored([turn]) == stored([other_turn])
    assert len(stored([turn])) == 1
    if messages:
        assert stored(messages) == stored(other_messages)
        by_id = dict(Message.objects.filter(turn=turn).values_list("pk", "position"))
        assert by_id == {row.pk: row.position for row in messages}


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(6))
def test_a_new_session_is_stored_with_its_first_turn_as_the_orm_stores_it(
    session: Session, seed: int
) -> None:
    choose = random.Random(seed)
    fields: dict[str, Any] = {
        "owner": session.owner,
        "person": session.person,
        "agent": "helper",
        "title": choose.choice(["", "The harbour: 50 % deeper"]),
        "metadata": choose.choice([{}, {"topic": "tea"}]),
        "kind": choose.choice(["conversation", "chain"]),
        "expires_at": choose.choice([None, timezone.now()]),
        "last_turn": 1,
        "last_position": 3,
        "message_count": 3,
        "turn_count": 1,
        "token_count": 12,
    }
    new_session, orm_session = Session(**fields), Session(**fields)
    turn, messages = new_rows(new_session, choose, positions=range(1, 4))
    statements.insert_turn(new_session, turn, messages, saves_counters=True)
    orm_session.save()

    assert stored([new_session]) == stored([orm_session])
    assert not new_session._state.adding
    assert list(Message.objects.filter(turn=turn, session=new_session).order_by("position")) == messages


@pytest.mark.django_db
def test_messages_join_a_stored_turn_in_batches(session: Session) -> None:
    turn, messages = new_rows(session, random.Random(0), positions=range(1203))
    statements.insert_turn(session, turn, messages[:1], saves_counters=False)
    session.last_position, session.message_count = 1203, 1203
    statements.insert_turn(session, turn, messages[1:], saves_counters=True)
    assert Message.objects.filter(turn=turn).count() == 1203
    session.refresh_from_db()
    assert (session.last_position, session.message_count) == (1203, 1203)


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(12))
def test_a_lock_returns_the_session_its_last_turn_and_whether_it_is_busy(session: Session, seed: int) -> None:
    choose = random.Random(seed)
    for number in range(choose.randint(0, 4)):
        positions = range(100 * number, 100 * number + choose.randint(0, 3))
        turn, messages = new_rows(session, choose, number=number, positions=positions)
        turn.indexed_at = choose.choice([None, timezone.now()])
        statements.insert_turn(session, turn, messages, saves_counters=True)
    if is_busy := choose.random() < 0.5:
        status = choose.choice(["queued", "running"])
        turn = Turn(session=session, number=99, status=status, lease_until=timezone.now())
        statements.insert_turn(session, turn, [], saves_counters=True)

    with transaction.atomic():
        locked = statements.lock_session(session.pk)
        assert locked is not None
        expected = Session.objects.get(pk=session.pk)
        for name in set(vars(locked.session)) - {"_state"}:
            assert getattr(locked.session, name) == getattr(expected, name)
        last = Message.objects.transcript(session).select_related("turn").last()
        assert locked.last_turn == (last.turn if last else None)
        if locked.last_turn and last:
            assert locked.last_turn.kind == last.turn.kind
            assert locked.last_turn.indexed_at == last.turn.indexed_at
        assert locked.is_busy is is_busy


@pytest.mark.django_db
def test_a_lock_of_no_session_is_none() -> None:
    assert statements.lock_session(Session().pk) is None


@pytest.mark.django_db
def test_a_row_is_inserted_unless_it_is_there(alice: Any) -> None:
    fields = {"owner": alice, "person": "ann", "key": "k", "fingerprint": "f"}
    row, same_row = IdempotencyRecord(**fields), IdempotencyRecord(**fields, status=200, body=[1])
    other_row, orm_row = (IdempotencyRecord(**fields | {"key": key}, body=[1]) for key in ("l", "m"))
    assert statements.insert_if_absent(row)
    assert not statements.insert_if_absent(same_row)
    assert statements.insert_if_absent(other_row)
    orm_row.save()
    assert IdempotencyRecord.objects.get(key="k") == row
    assert IdempotencyRecord.objects.get(key="k").status is None
    assert same_row.pk is None
    assert stored([other_row], "key") == stored([orm_row], "key")


@pytest.mark.django_db(transaction=True)
def test_a_lock_that_had_to_wait_sees_what_was_written_meanwhile(session: Session) -> None:
    locked: list[statements.LockedSession | None] = []

    def wait_for_the_lock() -> None:
        with transaction.atomic():
            locked.append(statements.lock_session(session.pk))

    with transaction.atomic():
        row = history.lock(session.pk)
        waiter = in_thread(wait_for_the_lock)
        if connection.vendor == "postgresql":
            wait_until(waits_for_a_lock)
        turn, messages = new_rows(row, random.Random(0), positions=range(2))
        turn.status, turn.lease_until = Turn.Status.RUNNING, timezone.now()
        messages[1].active, messages[1].thread, messages[1].erased_at = True, "", None
        row.last_position = 2
        statements.insert_turn(row, turn, messages, saves_counters=True)
    waiter.join()

    assert locked[0] is not None
    assert locked[0].session.last_position == 2
    assert locked[0].last_turn == turn
    assert locked[0].is_busy


@pytest.mark.django_db
def test_drafts_and_leases_of_a_running_turn_leave_the_indexes_alone(session: Session) -> None:
    turn = Turn.objects.create(session=session, number=1, status="running", lease_until=timezone.now())
    version = AgentVersion.objects.create(sha256="a" * 64, name="helper", config={})
    prompt = PromptRecord(model="m", agent_version=version, manifest=MANIFEST, cache_hit=None)
    assert statements.renew_leases([turn.pk], 15) == {turn.pk}
    statements.save_drafts([Draft(turn=turn, text="The harbour", chunks=[], prompt=prompt)])
    turn.refresh_from_db()
    assert (turn.draft, turn.manifest) == ("The harbour", MANIFEST)
    if connection.vendor == "sqlite":
        # It writes to the indexes of the changed columns anyway.
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid)"
            " FROM pg_class WHERE relname = 'convo_turn'"
        )
        assert cursor.fetchone() == (2, 2)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_long_transcript_is_read_from_its_end_before_there_are_statistics(session: Session) -> None:
    with connection.cursor() as cursor:
        # As in a new database into which conversations are imported.
        cursor.execute("TRUNCATE convo_message CASCADE")
        cursor.execute("DELETE FROM pg_statistic WHERE starelid = 'convo_message'::regclass")
    messages = [NewMessage(role="user", content=f"{number} {'word ' * 80}") for number in range(500)]
    for _ in range(6):
        turns.record(session, messages)
    session.refresh_from_db()
    with explain_statements("append") as plans:
        turns.record(session, messages[:2])
    assert {plan.caller for plan in plans} >= {"history.statements.appending.lock_session"}
    assert max(plan.rows for plan in plans) < 100
