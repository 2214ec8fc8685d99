"""Delete messages: each leaves a tombstone, and whatever was derived from it is deleted or made again."""

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.db.models import CharField, Q, Value
from django.db.models.functions import Cast, Concat, Now

from convo import database
from convo.errors import NotFound, ResultDeleted
from convo.history import ephemeral
from convo.history.files import attachments
from convo.history.locks import lock_idle
from convo.history.read import find_message, get_item
from convo.history.session_row import recount, reset_title
from convo.history.tool_pairs import pair
from convo.models import (
    Evidence,
    Feedback,
    IdempotencyRecord,
    IndexedMessage,
    Message,
    Session,
    Summary,
    Turn,
    UserMemory,
)


@database.retry_conflicts
@transaction.atomic
def delete_message(session_id: UUID, position: int) -> None:
    """Delete one message: a question together with its replies, half of a tool pair with its other half."""
    session = lock_idle(session_id).session
    row = find_message(session, position)
    rows = [row]
    if row.role == Message.Role.USER and row.turn.kind == Turn.Kind.REPLY:
        is_in_exchange = Q(turn=row.turn) | Q(turn__question_turn=row.turn)
        rows = list(Message.objects.filter(is_in_exchange, erased_at=None))
    _erase_messages(session, _with_other_half(session, rows))


@database.retry_conflicts
@transaction.atomic
def delete_item(session_id: UUID, item_id: str) -> None:
    """Delete the message with this item id and no other, except that a tool call takes its result along.

    A result is deleted alone: a client that undoes a conversation item by item deletes its call next.
    """
    session = lock_idle(session_id).session
    row = get_item(session, item_id)
    _erase_messages(session, [row] if row.role == Message.Role.TOOL else _with_other_half(session, [row]))


@database.retry_conflicts
@transaction.atomic
def delete_turn(session_id: UUID, number: int) -> None:
    """Delete the messages of a turn, and the other replies to its question."""
    session = lock_idle(session_id).session
    turn = Turn.objects.filter(session=session, number=number).first()
    rows = Message.objects.filter(Q(turn=turn) | Q(turn__question_turn=turn), session=session, erased_at=None)
    if turn is None or not rows:
        raise NotFound(f"This session has no turn {number}.")
    _erase_messages(session, _with_other_half(session, rows))


def _erase_messages(session: Session, rows: Iterable[Message]) -> None:
    pks, positions = [row.pk for row in rows], [row.position for row in rows]
    attachments.detach(Message.objects.filter(pk__in=pks))
    Message.objects.filter(pk__in=pks).update(
        content="",
        item=None,
        # The item id becomes free, so that a client can add the deleted item again.
        item_id=Concat(Value("gone "), Cast("position", CharField())),
        name="",
        tokens=0,
        active=False,
        recallable=False,
        erased_at=Now(),
    )
    Evidence.objects.filter(message__in=pks).delete()
    # Search must find nothing of it once the transaction is committed, so this can't wait for a job.
    IndexedMessage.objects.filter(message__in=pks).delete()
    # A gist or a draft would repeat the deleted text. The rest of the turn is learned from again.
    Turn.objects.filter(messages__in=pks).update(gist="", draft="", input=[], chunks=[], learned_at=None)
    # A note on the reply may quote it.
    Feedback.objects.filter(turn__messages__in=pks).delete()
    # The stored response to an append repeats its text: from now on its idempotency key gets 410.
    stored_responses = IdempotencyRecord.objects.filter(turn__messages__in=pks, body__isnull=False)
    stored_responses.update(turn=None, status=ResultDeleted.status, body=None)
    ephemeral.prune_contents(session)
    reset_title(session, Message.objects.filter(pk__in=pks))
    Summary.objects.mark_stale(session, min(positions), erase=True)
    UserMemory.objects.unsupported(session.person_id).retract()
    recount(session)


def _with_other_half(session: Session, rows: Iterable[Message]) -> list[Message]:
    by_position = {row.position: row for row in rows}
    if call_ids := {row.call_id for row in by_position.values() if row.call_id}:
        tool_messages = Message.objects.filter(session=session, item__call_id__in=call_ids, erased_at=None)
        tools = {row.position: row for row in tool_messages.order_by("position")}
        # Pairs within the active branch take precedence: another branch has calls and results of its own.
        active = [(position, row) for position, row in tools.items() if row.active]
        pairs = pair(tools.items()).calls | pair(active).calls
        calls = {pairs.get(position, position) for position in by_position}
        by_position |= {position: tools[position] for position, call in pairs.items() if call in calls}
        by_position |= {position: tools[position] for position in calls if position in tools}
    return list(by_position.values())
