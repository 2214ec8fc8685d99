"""Append messages to a transcript: the only place that inserts them, except for copies in a fork."""

from collections.abc import Sequence
from itertools import count, islice

from django.utils import timezone

from convo.history import ephemeral, statements
from convo.history.files import attachments
from convo.history.messages import NewMessage
from convo.models import Message, Session, Turn


def append(
    session: Session, turns: Sequence[tuple[Turn, Sequence[NewMessage]]], *, active: bool = True
) -> list[Message]:
    """Add messages at the end of a locked session, and save its counters; return them with their contents.

    New turns are inserted with their messages. With storage `none` the messages are not stored and serve this
    turn alone. Messages that are not `active`, such as the question of an answer that is still being written,
    take their positions and are not counted yet.
    """
    attachments.refuse_references([message.item for _, messages in turns for message in messages])
    positions = count(session.last_position + 1)
    rows = [
        message.row(session=session, turn=turn, position=next(positions), active=active)
        for turn, messages in turns
        for message in messages
    ]
    stored_rows = _store_contents(session, rows)
    if session.storage != Session.Storage.NONE:
        session.last_position += len(rows)
        session.message_count += len(rows) if active else 0
        session.token_count += sum(row.tokens for row in rows) if active else 0
    # Save the session even if it stores no messages: its turns are counted, and the changed row tells a
    # writer that waits for the lock to read again.
    session.last_activity = timezone.now()
    remaining_rows = iter(stored_rows)
    for turn, messages in turns:
        if parent := turn._state.fields_cache.get("parent"):
            # It may have been inserted a moment ago, and assigning it again copies its new id.
            turn.parent = parent
        turn_rows = list(islice(remaining_rows, len(messages)))
        statements.insert_turn(session, turn, turn_rows, saves_counters=turn is turns[-1][0])
    for row in rows:
        # Inserting the turn gave it its id; assigning it again copies the id into the row.
        row.turn = row.turn
    if session.storage == Session.Storage.PERSISTENT:
        attachments.link(rows)
    return rows


def _store_contents(session: Session, rows: list[Message]) -> list[Message]:
    """Store what these rows can't hold, and return the rows to insert."""
    if session.storage == Session.Storage.PERSISTENT:
        attachments.store(session.person_id, rows)
        return rows
    if session.is_ephemeral:
        # The contents are saved first: a committed row never lacks them.
        ephemeral.save_contents(session, rows)
        return list(map(ephemeral.without_contents, rows))
    return []
