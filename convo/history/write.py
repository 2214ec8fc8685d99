"""Change the transcript: every change happens under the session's row lock, in one short transaction."""

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models import Count, QuerySet, Sum
from django.utils import timezone

from convo import database
from convo.errors import NotFound, ResultDeleted
from convo.history import attachments, ephemeral
from convo.history.messages import NewMessage
from convo.models import (
    Evidence,
    Feedback,
    IdempotencyRecord,
    IndexedMessage,
    Message,
    Session,
    Summary,
    Turn,
    TurnRequest,
    UserMemory,
    new_item_id,
)


def lock(session_id: UUID) -> Session:
    """Lock the session's row until the transaction ends, and return it; raise NotFound if it is deleted."""
    session = Session.objects.lock(session_id)
    if session is None or session.state == Session.State.DELETED:
        raise NotFound("There is no such session.")
    return session


def append(
    session: Session, entries: Sequence[tuple[Turn, NewMessage]], *, active: bool = True
) -> list[Message]:
    """Add messages at the end of a locked session, and save its counters.

    With storage `none` the returned rows are not saved; they serve this turn alone. In an ephemeral session
    they are saved without their contents. Messages that are not `active`, such as the question of an answer
    that is still being written, take their positions and are not counted yet.
    """
    rows = [
        Message(
            session=session,
            turn=turn,
            position=position,
            item_id=message.item_id or new_item_id(message.type),
            type=message.type,
            role=message.role,
            name=message.name,
            agent=message.agent,
            content=message.content,
            item=message.item,
            tokens=message.tokens,
            active=active,
            recallable=message.recallable,
        )
        for position, (turn, message) in enumerate(entries, session.last_position + 1)
    ]
    if session.storage != Session.Storage.NONE:
        with ephemeral.store_contents(session, rows):
            attachments.insert_with_attachments(session.person_id, rows)
        _mark_unindexed(entries)
        session.last_position += len(rows)
        if active:
            session.message_count += len(rows)
            session.token_count += sum(row.tokens for row in rows)
    # Every session is saved: the turns are stored even where their messages are not, and who created them
    # has counted them in `last_turn` and `turn_count`.
    session.last_activity = timezone.now()
    session.save(
        update_fields=[
            "last_position",
            "message_count",
            "token_count",
            "last_turn",
            "turn_count",
            "last_activity",
        ]
    )
    return rows


def _mark_unindexed(entries: Sequence[tuple[Turn, NewMessage]]) -> None:
    """Mark the turns that these messages continue as not indexed, if they were indexed before.

    Nothing needs to be learned again: a turn continues with replies, and a user's message opens another one.
    """
    if indexed_turn_ids := {turn.pk for turn, _ in entries if turn.indexed_at}:
        Turn.objects.filter(pk__in=indexed_turn_ids).update(indexed_at=None)


def recount(session: Session) -> None:
    """Recount a locked session whose branches or messages have changed, and raise its epoch."""
    totals = Message.objects.transcript(session).aggregate(messages=Count("id"), tokens=Sum("tokens"))
    session.message_count, session.token_count = totals["messages"], totals["tokens"] or 0
    # A turn without any message counts: it has none yet, or it is a regenerated reply that failed.
    erased_turns = session.turns.filter(messages__isnull=False).exclude(messages__erased_at=None).distinct()
    session.turn_count = session.turns.count() - erased_turns.count()
    session.epoch += 1
    session.save(update_fields=["message_count", "token_count", "turn_count", "epoch"])


def mark_summaries_stale(session: Session, position: int, *, erase: bool = False) -> None:
    """Mark the summaries that reach this position as stale; with `erase`, delete their texts as well."""
    summaries = Summary.objects.filter(session=session, to_position__gte=position)
    summaries.filter(stale=False).update(stale=True)
    if erase:
        summaries.update(text="")


def reset_title(session: Session, hidden_messages: QuerySet[Message]) -> None:
    """Remove the title of a locked session if it was learned from these messages, which are no longer shown.

    Another one is learned from the messages that are left; a title that a person set stays.
    """
    if session.title_turn is None:
        return
    if not hidden_messages.filter(turn__number=session.title_turn, role=Message.Role.USER).exists():
        return
    session.title, session.title_turn = "", None
    session.save(update_fields=["title", "title_turn"])
    questions = Message.objects.transcript(session).filter(role=Message.Role.USER, recallable=True)
    if first_question := questions.exclude(content="").first():
        Turn.objects.filter(pk=first_question.turn_id).update(learned_at=None)


@database.retry_conflicts
@transaction.atomic
def clear(session_id: UUID) -> None:
    """Delete the transcript and keep the session. A running turn ends, because its row is gone."""
    session = lock(session_id)
    if session.base_position == session.last_position and not session.turns.exists():
        delete_set_aside(session)
        return
    reset_title(session, Message.objects.filter(session=session))
    _delete_all_but_session(session)
    save_as_empty(session)


def save_as_empty(session: Session) -> None:
    session.epoch += 1
    session.base_position = session.last_position
    session.message_count = session.turn_count = session.token_count = 0
    session.save(update_fields=["epoch", "base_position", "message_count", "turn_count", "token_count"])


@database.retry_conflicts
@transaction.atomic
def remove(session_id: UUID) -> None:
    if not remove_if(Session.objects.all(), session_id):
        raise NotFound("There is no such session.")


@database.retry_conflicts
@transaction.atomic
def remove_if(sessions: QuerySet[Session], session_id: UUID) -> bool:
    """Delete the session of this id if, once its row is locked, it is one of these; return whether it was."""
    session = sessions.select_for_update().filter(pk=session_id).first()
    if session is None:
        return False
    _delete_all_but_session(session)
    session.delete()
    return True


def delete_set_aside(session: Session) -> None:
    for cleared_session in Session.objects.cleared_from(session):
        _delete_all_but_session(cleared_session)
        cleared_session.delete()


def _delete_all_but_session(session: Session) -> None:
    """Delete the messages and turns of a locked session, and all that came of them.

    Facts that were learned from these messages alone go as well.
    """
    delete_set_aside(session)
    # A late retry must neither restore a message that is deleted here nor send it to a model again.
    IdempotencyRecord.objects.filter(turn__session=session).update(
        turn=None, status=ResultDeleted.status, body=None
    )
    # An attachment goes with the last message that uses it, so this comes before the messages.
    attachments.detach(Message.objects.filter(session=session))
    # There is one statement per table: Django's own cascade would load every message of a long session first.
    for rows in (
        Evidence.objects.filter(message__session=session),
        IndexedMessage.objects.filter(session=session),
        Message.objects.filter(session=session),
        Summary.objects.filter(session=session),
        TurnRequest.objects.filter(turn__session=session),
        Feedback.objects.filter(turn__session=session),
        Turn.objects.filter(session=session),
    ):
        rows._raw_delete(rows.db)
    ephemeral.prune_contents(session)
    UserMemory.objects.unsupported(session.person_id).retract()
