"""Read sessions, pages and prompts: a page of twenty messages takes 0.5 ms of CPU instead of 2.0."""

from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from convo.history.messages import TranscriptMessage
from convo.models import Message, Person, Session, Summary, Turn, UserMemory
from convo.sql import Columns, db_value, fetch_all, fetch_one

# The key of a memory, its terms, and its vector with the vector's model and dimension.
IndexEntry = tuple[int, str, bytes | memoryview | None, str, int]

_SESSION, _PERSON = Columns(Session), Columns(Person)
_SESSION_SQL = f"""
    SELECT {_SESSION.sql("session")}, {_PERSON.sql("person")}
    FROM convo_session session JOIN convo_person person ON person.id = session.person_id
    WHERE session.id = %s AND session.owner_id = %s
        AND session.kind = 'conversation' AND session.state <> 'deleted'
"""
# The messages that count today, as in `MessageQuerySet.transcript`.
IN_TRANSCRIPT_SQL = "message.thread = '' AND message.active AND message.erased_at IS NULL"
_TRANSCRIPT_SQL = f"message.session_id = %s AND {IN_TRANSCRIPT_SQL}"
_MESSAGE, _TURN = Columns(Message), Columns(Turn, "id", "number", "kind", "status", "question_turn")
_MESSAGE_TURN: Any = Message._meta.get_field("turn")
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

_MEMORY = Columns(UserMemory, "id", "key", "text", "pinned", "valid_from")
_SUMMARY_SQL = f"""
    SELECT summary.id, summary.to_position, summary.text, {", ".join(["NULL"] * (len(_MEMORY) + 5))}
    FROM (
        SELECT id, to_position, text FROM convo_summary
        WHERE session_id = %s AND thread = '' AND NOT stale AND to_position <= %s
        ORDER BY to_position DESC LIMIT 1
    ) summary
"""
# Memories learned from nothing but deleted sessions are left out. The owner's deleted sessions come first in
# the condition, because there are hardly ever any.
_FACTS_SQL = f"""
    SELECT NULL, NULL, NULL, {_MEMORY.sql("memory")},
        (SELECT {{joined_ids}} FROM convo_evidence evidence WHERE evidence.memory_id = memory.id),
        entry.terms, entry.vector, entry.model, entry.dim
    FROM (
        SELECT * FROM convo_usermemory memory
        WHERE memory.person_id = %s AND memory.status = 'active' AND NOT (
            memory.source <> 'user'
            AND memory.id IN (
                SELECT evidence.memory_id FROM convo_session session
                JOIN convo_message message ON message.session_id = session.id
                JOIN convo_evidence evidence ON evidence.message_id = message.id
                WHERE session.owner_id = %s AND session.state_before IS NOT NULL
            )
            AND NOT EXISTS (
                SELECT 1 FROM convo_evidence evidence
                JOIN convo_message message ON message.id = evidence.message_id
                JOIN convo_session session ON session.id = message.session_id
                WHERE evidence.memory_id = memory.id AND message.active AND message.erased_at IS NULL
                    AND session.state_before IS NULL
            )
        )
        ORDER BY memory.pinned DESC, memory.valid_from, memory.id LIMIT %s
    ) memory LEFT JOIN convo_indexedmemory entry
        ON entry.memory_id = memory.id AND entry.text_key = memory.text_key AND %s
"""
_JOINED_IDS_SQL = {
    "sqlite": "group_concat(evidence.message_id)",
    "postgresql": "string_agg(CAST(evidence.message_id AS text), ',')",
}


def find_session(owner_id: object, session_id: UUID) -> Session | None:
    """Return the owner's session with its person, unless it is deleted or a chain."""
    row = fetch_one(_SESSION_SQL, [db_value(Session, "id", session_id), db_value(Session, "owner", owner_id)])
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
    rows = fetch_all(
        _PAGE_SQL.format(direction="DESC" if newest_first else "ASC"),
        [session_key, after, session_key, before, session_key, after, before, limit],
    )
    turns: dict[int, Turn] = {}
    messages = []
    for row in rows:
        message = _MESSAGE.instance(row[: len(_MESSAGE)])
        if message.turn_id not in turns:
            turns[message.turn_id] = _TURN.instance(row[len(_MESSAGE) : -2])
        # So does the ORM; an assignment would ask the database routers about every message.
        _MESSAGE_TURN.set_cached_value(message, turns[message.turn_id])
        messages.append(message)
    return PageRows(messages, *(map(bool, rows[0][-2:]) if rows else (False, False)))


def read_newest(session_id: UUID, *, after: int, before: int, limit: int) -> list[TranscriptMessage]:
    """Read the newest messages between two positions, oldest first. Ephemeral ones have no text."""
    rows = fetch_all(_NEWEST_SQL, [db_value(Message, "session", session_id), after, before, limit])
    return [TranscriptMessage.from_columns(*row) for row in reversed(rows)]


class SummaryRow(NamedTuple):
    """A summary of the transcript up to a position."""

    id: int
    to_position: int
    text: str


class FactRow(NamedTuple):
    """A memory, the messages that it was learned from, and its entry in the search index if there is one."""

    memory: UserMemory
    message_ids: list[int]
    index_entry: IndexEntry | None


def read_prompt_sources(
    session: Session, *, upto: int | None, max_facts: int, with_index: bool
) -> tuple[SummaryRow | None, list[FactRow]]:
    """Read the newest summary up to a position, unless that is None, and the facts about the person."""
    parts: list[str] = []
    values: list[Any] = []
    if upto is not None:
        parts.append(_SUMMARY_SQL)
        values += [db_value(Summary, "session", session.pk), upto]
    if max_facts:
        parts.append(_FACTS_SQL.format(joined_ids=_JOINED_IDS_SQL[connection.vendor]))
        owner_id = db_value(Session, "owner", session.person.owner_id)
        values += [session.person_id, owner_id, max_facts, with_index]
    rows = fetch_all(" UNION ALL ".join(parts), values) if parts else []
    summaries = [SummaryRow(*row[:3]) for row in rows if row[0] is not None]
    return next(iter(summaries), None), [_fact_row(row[3:]) for row in rows if row[0] is None]


def _fact_row(row: tuple[Any, ...]) -> FactRow:
    memory = _MEMORY.instance(row[: len(_MEMORY)])
    message_ids, terms, *vector = row[len(_MEMORY) :]
    return FactRow(
        memory,
        [int(id) for id in message_ids.split(",")] if message_ids else [],
        None if terms is None else (memory.pk, terms, *vector),
    )
