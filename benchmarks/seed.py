"""Conversations by the million, by COPY: the rows that appends leave, already indexed and learned from."""

import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import Max, Model
from django.utils import timezone

from benchmarks import stage
from convo import tokens
from convo.models import ME, NOBODY, ApiKey, IdempotencyRecord, Message, Person, Session, Turn, UserMemory

# Sessions of one COPY: their rows are in memory together.
BATCH = 200


class Row:
    """The values of a model's columns, taken from an instance, of which each row replaces some."""

    def __init__(self, instance: Model) -> None:
        fields = instance._meta.concrete_fields
        self.columns = [str(field.column) for field in fields]
        self._places = {field.attname: place for place, field in enumerate(fields)}
        self._values = [
            field.get_db_prep_save(getattr(instance, field.attname), connection) for field in fields
        ]

    def with_values(self, **values: object) -> list[Any]:
        row = self._values.copy()
        for name, value in values.items():
            row[self._places[name]] = value
        return row


def copy(model: type[Model], columns: Iterable[str], rows: Iterable[list[Any]]) -> None:
    quote = connection.ops.quote_name
    names = ", ".join(map(quote, columns))
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {quote(model._meta.db_table)} ({names}) FROM STDIN") as sink,
    ):
        for row in rows:
            sink.write_row(row)


def next_id(model: type[Any]) -> int:
    return int(model.objects.aggregate(most=Max("id"))["most"] or 0) + 1


def move_sequence(model: type[Model]) -> None:
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
        )


def seed(owner: Any, *, sessions: int, messages: int) -> list[uuid.UUID]:
    """Insert so many sessions of so many messages each; return their ids."""
    person = Person.objects.get_or_create_by_ref(owner, NOBODY)
    ids = [uuid.uuid4() for _ in range(sessions)]
    remaining = iter(ids)
    while batch := list(islice(remaining, BATCH)):
        with transaction.atomic():
            _copy_batch(owner, person, batch, messages)
    move_sequence(Turn)
    move_sequence(Message)
    return ids


def _copy_batch(owner: Any, person: Person, ids: list[uuid.UUID], messages: int) -> None:
    now, turns = timezone.now(), messages // 2
    texts = [message.content for message in stage.pair(1)]
    counts = [tokens.count(text) for text in texts]
    session = Row(
        Session(
            owner=owner,
            person=person,
            agent="assistant",
            last_position=messages,
            message_count=messages,
            last_turn=turns,
            turn_count=turns,
            token_count=sum(counts) * turns,
            checked_version=messages,
        )
    )
    copy(Session, session.columns, (session.with_values(id=id) for id in ids))
    end_times = {"finished_at": now, "indexed_at": now, "learned_at": now}
    turn = Row(Turn(kind=Turn.Kind.RECORDED, status=Turn.Status.COMPLETE, agent="assistant", **end_times))
    # No other statement can be sent while rows are copied.
    first_turn, first_message = next_id(Turn), next_id(Message)
    copy(Turn, turn.columns, _turn_rows(turn, ids, turns, first_turn))
    message = Row(Message(role=Message.Role.USER))
    pair = list(zip(texts, counts, strict=True))
    copy(Message, message.columns, _message_rows(message, ids, turns, first_message, first_turn, pair))


def _turn_rows(turn: Row, ids: list[uuid.UUID], turns: int, first: int) -> Iterator[list[Any]]:
    id = first
    for session_id in ids:
        for number in range(1, turns + 1):
            parent_id = id - 1 if number > 1 else None
            yield turn.with_values(
                id=id, key=uuid.uuid4(), session_id=session_id, number=number, parent_id=parent_id
            )
            id += 1


def _message_rows(
    message: Row, ids: list[uuid.UUID], turns: int, first: int, first_turn: int, texts: list[tuple[str, int]]
) -> Iterator[list[Any]]:
    id, turn_id = first, first_turn
    for session_id in ids:
        for position in range(1, 2 * turns + 1):
            is_reply = position % 2 == 0
            content, count = texts[is_reply]
            yield message.with_values(
                id=id,
                session_id=session_id,
                turn_id=turn_id,
                position=position,
                item_id=f"msg_{uuid.uuid4().hex}",
                role=Message.Role.ASSISTANT if is_reply else Message.Role.USER,
                content=content,
                tokens=count,
            )
            id += 1
            turn_id += is_reply


def add_others(count: int) -> None:
    """Insert so many other users, each with a key, a person with a memory, and a write that was made once."""
    user = get_user_model()
    names = [f"user-{number}" for number in range(count)]
    users = user.objects.bulk_create(user(username=name) for name in names)
    pairs = list(zip(users, names, strict=True))
    people = Person.objects.bulk_create(Person(owner=owner, ref=ME) for owner in users)
    ApiKey.objects.bulk_create(
        ApiKey(owner=owner, prefix=name, hash=name, scopes=[]) for owner, name in pairs
    )
    IdempotencyRecord.objects.bulk_create(IdempotencyRecord(owner=owner, key=name) for owner, name in pairs)
    UserMemory.objects.bulk_create(
        UserMemory(person=person, kind="fact", text="Likes tea.", text_key="tea", source="user")
        for person in people
    )


def analyze() -> None:
    """Update the statistics that the planner chooses by."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
