"""Append messages to a transcript: the only place that inserts them, except for copies in a fork."""

from collections.abc import Sequence

from django.utils import timezone

from convo.history import ephemeral
from convo.history.files import attachments
from convo.history.messages import NewMessage
from convo.models import Message, Session, Turn


def append(
    session: Session, entries: Sequence[tuple[Turn, NewMessage]], *, active: bool = True
) -> list[Message]:
    """Add messages at the end of a locked session, and save its counters; return them with their contents.

    With storage `none` they are not stored and serve this turn alone. Messages that are not `active`, such as
    the question of an answer that is still being written, take their positions and are not counted yet.
    """
    attachments.refuse_references([message.item for _, message in entries])
    rows = [
        message.row(session=session, turn=turn, position=position, active=active)
        for position, (turn, message) in enumerate(entries, session.last_position + 1)
    ]
    if session.storage == Session.Storage.PERSISTENT:
        attachments.store(session.person_id, rows)
        Message.objects.bulk_create(rows)
        attachments.link(rows)
        _mark_unindexed(entries)
    elif session.is_ephemeral:
        # The contents are saved first: a committed row never lacks them.
        ephemeral.save_contents(session, rows)
        Message.objects.bulk_create(map(ephemeral.without_contents, rows))
    if session.storage != Session.Storage.NONE:
        session.last_position += len(rows)
        session.message_count += len(rows) if active else 0
        session.token_count += sum(row.tokens for row in rows) if active else 0
    # The session is saved in every case: even one that stores no messages stores its turns, and `create_turn`
    # has counted them.
    session.last_activity = timezone.now()
    counters = ["last_position", "message_count", "token_count", "last_turn", "turn_count"]
    session.save(update_fields=[*counters, "last_activity"])
    return rows


def _mark_unindexed(entries: Sequence[tuple[Turn, NewMessage]]) -> None:
    """Mark the turns that these messages continue as not indexed, if they were indexed before.

    Memories need not be learned again: they come from user messages, and each of those opens a new turn.
    """
    if indexed_turn_ids := {turn.pk for turn, _ in entries if turn.indexed_at}:
        Turn.objects.filter(pk__in=indexed_turn_ids).update(indexed_at=None)
