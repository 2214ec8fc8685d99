"""Find where a branch begins, and show it in place of another: two statements instead of fourteen."""

from collections.abc import Sequence
from typing import NamedTuple

from django.db import connection

from convo.history.statements.reading import IN_TRANSCRIPT_SQL
from convo.models import Message, Session, Summary, Turn
from convo.sql import Columns, db_value, execute, fetch_all, placeholders

_FIRST_SHOWN_SQL = """
    SELECT MIN(message.position) FROM convo_message message JOIN convo_turn turn ON turn.id = message.turn_id
    WHERE {turn} AND message.agent = '' AND message.active AND message.erased_at IS NULL
"""
_BRANCH_POINT_SQL = f"""
    WITH question AS (SELECT COALESCE(
        ({_FIRST_SHOWN_SQL.format(turn="turn.id = %s")}),
        ({_FIRST_SHOWN_SQL.format(turn="turn.session_id = %s AND turn.parent_id {is_parent}")})
    ) AS position)
    SELECT
        question.position IS NOT NULL,
        (SELECT MAX(message.position) FROM convo_message message
            WHERE message.session_id = %s AND {IN_TRANSCRIPT_SQL} AND message.position < question.position),
        (SELECT COUNT(*) FROM convo_message message
            WHERE message.session_id = %s AND {IN_TRANSCRIPT_SQL} AND message.position >= question.position)
    FROM question
"""
_SWITCHED = Columns(Message, "turn", "role", "tokens", "active")
_MARK_STALE_SQL = (
    "UPDATE convo_summary SET stale = TRUE WHERE session_id = %s AND to_position > %s AND NOT stale"
)


class BranchPoint(NamedTuple):
    """The last position that a branch continues from, and how many shown messages come after it."""

    position: int
    later_messages: int


def find_branch_point(turn: Turn) -> BranchPoint | None:
    """Return where the branch of a turn begins; None if neither its question nor a sibling's is shown."""
    session_key = db_value(Message, "session", turn.session_id)
    is_parent = "IS NULL" if turn.parent_id is None else "= %s"
    values = [turn.question_turn_id or turn.pk, session_key, turn.parent_id, session_key, session_key]
    rows = fetch_all(
        _BRANCH_POINT_SQL.format(is_parent=is_parent), [value for value in values if value is not None]
    )
    ((is_found, position, later_messages),) = rows
    if not is_found:
        return None
    return BranchPoint(turn.session.base_position if position is None else position, later_messages)


def switch_branch(
    session: Session, position: int, *, turn_ids: Sequence[int], question_turn_ids: Sequence[int]
) -> list[Message]:
    """Show all messages of some turns, and the questions of others, in place of all others after a position.

    Summaries that reach beyond the position become stale. Return the messages that this has changed.
    """
    session_key = db_value(Message, "session", session.pk)
    is_question = (
        f" OR (agent = '' AND turn_id IN ({placeholders(question_turn_ids)}))" if question_turn_ids else ""
    )
    sql = (
        "UPDATE convo_message SET active = NOT active"
        " WHERE session_id = %s AND position > %s AND erased_at IS NULL"
        f" AND active <> (turn_id IN ({placeholders(turn_ids)}){is_question})"
        f" RETURNING {_SWITCHED.sql('convo_message')}"
    )
    values = [session_key, position, *turn_ids, *question_turn_ids]
    stale_values = [db_value(Summary, "session", session.pk), position]
    if connection.vendor == "postgresql":
        sql, values = f"WITH stale AS ({_MARK_STALE_SQL}) {sql}", [*stale_values, *values]
    else:
        # SQLite's WITH can't update.
        execute(_MARK_STALE_SQL, stale_values)
    return [_SWITCHED.instance(row) for row in fetch_all(sql, values)]
