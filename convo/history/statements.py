"""The hottest statements, written by hand: Django takes longer to build them than databases to answer them.

A page of twenty messages takes 0.5 ms instead of 2.0. tests/test_history_statements.py holds each statement
against the ORM's answer, so that a later column or another rule of the querysets is not forgotten here.
"""

import json
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from convo.columns import Columns, db_value
from convo.history.messages import TranscriptMessage
from convo.models import Message, Person, Session, Turn

# Reading.

_SESSION, _PERSON = Columns(Session), Columns(Person)
_SESSION_SQL = f"""
    SELECT {_SESSION.sql("session")}, {_PERSON.sql("person")}
    FROM convo_session session JOIN convo_person person ON person.id = session.person_id
    WHERE session.id = %s AND session.owner_id = %s
        AND session.kind = 'conversation' AND session.state <> 'deleted'
"""
_TRANSCRIPT_SQL = """
    message.session_id = %s AND message.thread = '' AND message.active AND message.erased_at IS NULL
"""
_MESSAGE, _TURN = Columns(Message), Columns(Turn, "id", "number", "status", "question_turn")
# Positions lie between these two.
BEFORE_ALL, AFTER_ALL = 0, 2**63 - 1
_PAGE_SQL = f"""
    SELECT {_MESSAGE.sql("message")}, {_TURN.sql("turn")},
        EXISTS (SELECT 1 FROM convo_message message WHERE {_TRANSCRIPT_SQL} AND message.position <= %s),
        EXISTS (SELECT 1 FROM convo_message message WHERE {_TRANSCRIPT_SQL} AND message.position >= %s)
    FROM convo_message message JOIN convo_turn turn ON turn.id = message.turn_id
    WHERE {_TRANSCRIPT_SQL} AND message.position > %s AND message.position < %s
    ORDER BY message.position {{direction}} LIMIT %s
"""
_NEWEST_SQL = f"""
    SELECT message.position, message.turn_id, message.type, message.role, message.name, message.agent,
        message.content, message.item, message.tokens, turn.kind
    FROM convo_message message JOIN convo_turn turn ON turn.id = message.turn_id
    WHERE {_TRANSCRIPT_SQL} AND message.position > %s AND message.position < %s
    ORDER BY message.position DESC LIMIT %s
"""


def find_session(owner_id: object, session_id: UUID) -> Session | None:
    """Return the owner's session with its person, unless it is deleted or a chain."""
    row = _fetch_one(
        _SESSION_SQL, [db_value(Session, "id", session_id), db_value(Session, "owner", owner_id)]
    )
    if row is None:
        return None
    session = _SESSION.instance(row[: len(_SESSION)])
    session.person = _PERSON.instance(row[len(_SESSION) :])
    return session


class PageRows(NamedTuple):
    """Messages with their turns' numbers, in the direction that was read, and what lies beyond the bounds."""

    messages: list[Message]
    has_older: bool
    has_newer: bool


def read_page(session_id: UUID, *, after: int, before: int, newest_first: bool, limit: int) -> PageRows:
    """Read up to `limit` messages between two positions, and whether there are any outside of these."""
    session_key = db_value(Message, "session", session_id)
    rows = _fetch_all(
        _PAGE_SQL.format(direction="DESC" if newest_first else "ASC"),
        [session_key, after, session_key, before, session_key, after, before, limit],
    )
    turns: dict[int, Turn] = {}
    messages = []
    for row in rows:
        message = _MESSAGE.instance(row[: len(_MESSAGE)])
        if message.turn_id not in turns:
            turns[message.turn_id] = _TURN.instance(row[len(_MESSAGE) : -2])
        message.turn = turns[message.turn_id]
        messages.append(message)
    return PageRows(messages, *(map(bool, rows[0][-2:]) if rows else (False, False)))


def read_newest(session_id: UUID, *, after: int, before: int, limit: int) -> list[TranscriptMessage]:
    """Read the newest messages between two positions, oldest first. Ephemeral ones have no text."""
    rows = _fetch_all(_NEWEST_SQL, [db_value(Message, "session", session_id), after, before, limit])
    return [
        TranscriptMessage(
            position=position,
            turn=turn,
            type=type,
            role=role,
            name=name,
            agent=agent,
            content=content,
            item=json.loads(item) if item else None,
            tokens=tokens,
            from_model_turn=kind == Turn.Kind.REPLY,
        )
        for position, turn, type, role, name, agent, content, item, tokens, kind in reversed(rows)
    ]


def _fetch_one(sql: str, values: list[Any]) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def _fetch_all(sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())
