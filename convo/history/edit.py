"""Taking things back: what is deleted leaves a tombstone, and what rested on it is marked for redoing."""

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.db.models import CharField, Q, Value
from django.db.models.functions import Cast, Concat, Now

from convo import database
from convo.errors import Gone, NotFound
from convo.history import attachments, fleeting
from convo.history.ending import lock_free
from convo.history.known import item_in
from convo.history.write import recount, stale_from, take_title_back
from convo.models import (
    Evidence,
    Feedback,
    Idempotency,
    IndexedMessage,
    Message,
    Session,
    Turn,
    UserMemory,
)


@database.retried
@transaction.atomic
def pop(session_id: UUID) -> Message:
    """Take back the newest message; its position stays, as a tombstone."""
    session = lock_free(session_id)
    last = Message.objects.transcript(session).select_related("turn").last()
    if last is None:
        raise NotFound("This session has no messages.")
    fleeting.fill([last], lost_too=True)
    _bury(session, _with_other_half(session, [last]))
    return last


@database.retried
@transaction.atomic
def delete_message(session_id: UUID, position: int) -> None:
    """Delete one message; with a question go its replies, with half a tool pair its other half."""
    session = lock_free(session_id)
    row = Message.objects.transcript(session).filter(position=position).select_related("turn").first()
    if row is None:
        raise NotFound(f"This session has no message at position {position}.")
    rows = [row]
    if row.role == Message.Role.USER and row.turn.kind == Turn.Kind.REPLY:
        rows = list(Message.objects.filter(Q(turn=row.turn) | Q(turn__asks=row.turn), erased_at=None))
    _bury(session, _with_other_half(session, rows))


@database.retried
@transaction.atomic
def delete_item(session_id: UUID, item_id: str) -> None:
    """Delete the message of this item id and no other, except a tool call's result with its call.

    A result goes alone: whoever takes a conversation back item by item comes to its call next.
    """
    session = lock_free(session_id)
    row = item_in(session, item_id)
    _bury(session, [row] if row.role == Message.Role.TOOL else _with_other_half(session, [row]))


@database.retried
@transaction.atomic
def delete_turn(session_id: UUID, number: int) -> None:
    """Delete a turn's messages, and the other replies to its question."""
    session = lock_free(session_id)
    turn = Turn.objects.filter(session=session, number=number).first()
    rows = Message.objects.filter(Q(turn=turn) | Q(turn__asks=turn), session=session, erased_at=None)
    if turn is None or not rows:
        raise NotFound(f"This session has no turn {number}.")
    _bury(session, _with_other_half(session, rows))


def _bury(session: Session, rows: Iterable[Message]) -> None:
    keys, positions = [row.pk for row in rows], [row.position for row in rows]
    attachments.let_go(Message.objects.filter(pk__in=keys))
    Message.objects.filter(pk__in=keys).update(
        content="",
        item=None,
        # Free again: an item that was taken back can be added once more.
        item_id=Concat(Value("gone "), Cast("position", CharField())),
        name="",
        tokens=0,
        active=False,
        recallable=False,
        erased_at=Now(),
    )
    Evidence.objects.filter(message__in=keys).delete()
    # Before the transaction ends nothing of it is found any more.
    IndexedMessage.objects.filter(message__in=keys).delete()
    # A gist or a draft would tell what was just deleted.
    # What is left of the turn is learned from once more.
    Turn.objects.filter(messages__in=keys).update(gist="", draft="", input=[], pieces=[], learned_at=None)
    # And so may what somebody noted on the reply.
    Feedback.objects.filter(turn__messages__in=keys).delete()
    # So would the answer that an append got, kept under its key.
    kept = Idempotency.objects.filter(turn__messages__in=keys, body__isnull=False)
    kept.update(turn=None, status=Gone.status, body=None)
    take_title_back(session, Message.objects.filter(pk__in=keys))
    fleeting.tidy(session)
    stale_from(session, min(positions), erase=True)
    UserMemory.objects.unsupported(session.person_id).retract()
    recount(session)


def _with_other_half(session: Session, rows: Iterable[Message]) -> list[Message]:
    """These messages and, where one is a tool call or its result, the other half."""
    found = {row.pk: row for row in rows}
    if call_ids := {row.call_id for row in found.values() if row.call_id}:
        pairs = Message.objects.filter(session=session, item__call_id__in=call_ids, erased_at=None)
        found |= {row.pk: row for row in pairs}
    return list(found.values())
