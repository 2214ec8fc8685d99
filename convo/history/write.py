"""Writing the transcript: every change happens under the session's row lock, in one short transaction."""

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models import Count, QuerySet, Sum
from django.utils import timezone

from convo import database
from convo.errors import Gone, NotFound
from convo.history import attachments, fleeting
from convo.history.lines import Draft
from convo.models import (
    Asked,
    Evidence,
    Feedback,
    Idempotency,
    IndexedMessage,
    Message,
    Session,
    Summary,
    Turn,
    UserMemory,
    new_item_id,
)


def lock(session_id: UUID) -> Session:
    """The session's row, locked until the transaction ends; of one that is deleted there is none."""
    session = Session.objects.locked(session_id)
    if session is None or session.state == Session.State.DELETED:
        raise NotFound("There is no such session.")
    return session


def append(session: Session, entries: Sequence[tuple[Turn, Draft]], *, active: bool = True) -> list[Message]:
    """Add messages at the end of a locked session, and save where it stands now.

    Of a session whose storage is none, nothing is written: the rows are there for this turn alone. Those of
    a temporary chat are stored without their words.
    """
    rows = [
        Message(
            session=session,
            turn=turn,
            position=position,
            item_id=draft.item_id or new_item_id(draft.type),
            type=draft.type,
            role=draft.role,
            name=draft.name,
            agent=draft.agent,
            content=draft.content,
            item=draft.item,
            tokens=draft.tokens,
            active=active,
            recallable=draft.recallable,
        )
        for position, (turn, draft) in enumerate(entries, session.last_position + 1)
    ]
    if session.storage == Session.Storage.NONE:
        return rows
    with fleeting.apart(session, rows):
        attachments.insert(session.person_id, rows)
    _behind_again(entries)
    session.last_position += len(rows)
    if active:
        session.message_count += len(rows)
        session.token_count += sum(row.tokens for row in rows)
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


def _behind_again(entries: Sequence[tuple[Turn, Draft]]) -> None:
    """What was indexed of a recorded turn before it went on doesn't hold for the whole of it.

    What was learned does: a turn goes on with replies, and a user's message opens another one.
    """
    if done := {turn.pk for turn, _ in entries if turn.indexed_at}:
        Turn.objects.filter(pk__in=done).update(indexed_at=None)


def recount(session: Session) -> None:
    """Count the transcript of a locked session afresh, after its branches or messages have changed."""
    counted = Message.objects.transcript(session).aggregate(messages=Count("id"), tokens=Sum("tokens"))
    session.message_count, session.token_count = counted["messages"], counted["tokens"] or 0
    # A turn without a message is one that has none yet, or another answer that failed: it counts.
    emptied = session.turns.filter(messages__isnull=False).exclude(messages__erased_at=None).distinct()
    session.turn_count = session.turns.count() - emptied.count()
    session.epoch += 1
    session.save(update_fields=["message_count", "token_count", "turn_count", "epoch"])


def stale_from(session: Session, position: int, *, erase: bool = False) -> None:
    """Mark the summaries that reach this position: what they tell has changed, or must not be told."""
    reaching = Summary.objects.filter(session=session, to_position__gte=position)
    reaching.filter(stale=False).update(stale=True)
    if erase:
        reaching.update(text="")


def take_title_back(session: Session, gone: QuerySet[Message]) -> None:
    """Take the title of a locked session back if it was learned from these messages, which are gone.

    What is left teaches another one; a title that a person set stays.
    """
    if session.title_turn is None:
        return
    if not gone.filter(turn__number=session.title_turn, role=Message.Role.USER).exists():
        return
    session.title, session.title_turn = "", None
    session.save(update_fields=["title", "title_turn"])
    left = Message.objects.transcript(session).filter(role=Message.Role.USER, recallable=True)
    if first := left.exclude(content="").first():
        Turn.objects.filter(pk=first.turn_id).update(learned_at=None)


@database.retried
@transaction.atomic
def clear(session_id: UUID) -> None:
    """Empty the transcript and keep the session. A running turn ends, because its row is gone."""
    session = lock(session_id)
    if session.base_position == session.last_position and not session.turns.exists():
        return
    take_title_back(session, Message.objects.filter(session=session))
    _delete_contents(session)
    session.epoch += 1
    session.base_position = session.last_position
    session.message_count = session.turn_count = session.token_count = 0
    session.save(update_fields=["epoch", "base_position", "message_count", "turn_count", "token_count"])


@database.retried
@transaction.atomic
def remove(session_id: UUID) -> None:
    """Delete the session with everything in it."""
    if not remove_if(Session.objects.all(), session_id):
        raise NotFound("There is no such session.")


@database.retried
@transaction.atomic
def remove_if(still: QuerySet[Session], session_id: UUID) -> bool:
    """Delete the session of this id, if it is one of these when its row is locked; was it?"""
    session = still.select_for_update().filter(pk=session_id).first()
    if session is None:
        return False
    _delete_contents(session)
    session.delete()
    return True


def _delete_contents(session: Session) -> None:
    # A late retry must neither bring back what is deleted here nor ask it again.
    Idempotency.objects.filter(turn__session=session).update(turn=None, status=Gone.status, body=None)
    attachments.let_go(Message.objects.filter(session=session))
    # One statement a table: Django's own cascade would load every message of a long session first.
    for rows in (
        Evidence.objects.filter(message__session=session),
        IndexedMessage.objects.filter(session=session),
        Message.objects.filter(session=session),
        Summary.objects.filter(session=session),
        Asked.objects.filter(turn__session=session),
        Feedback.objects.filter(turn__session=session),
        Turn.objects.filter(session=session),
    ):
        rows._raw_delete(rows.db)
    fleeting.tidy(session)
    UserMemory.objects.unsupported(session.person_id).retract()
