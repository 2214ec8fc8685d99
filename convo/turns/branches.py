"""Regenerate an answer, ask an edited question, and choose between the branches that result."""

from collections.abc import Sequence

from django.db import transaction

from convo import database, history
from convo.errors import NotFound
from convo.history import NewMessage
from convo.models import Session, TurnRequest
from convo.turns.claim import Claim, attach_turn, claim_sibling, lock_open
from convo.turns.idempotency import IdempotencyKey, reserve
from convo.turns.prepare import PreparedTurn, SessionGuard, no_guard
from convo.turns.sessions import share_person


@database.retry_conflicts
def regenerate(
    session: Session,
    number: int = 0,
    edited_question: Sequence[NewMessage] = (),
    *,
    turn_id: int | None = None,
    agent: str = "",
    key: IdempotencyKey | None = None,
    request: TurnRequest | None = None,
    guard: SessionGuard = no_guard,
) -> Claim:
    """Begin another answer to a turn's question, or to an edited question in its place; the old answer stays.

    The turn is named by its number or its primary key. The options of the old turn apply again, unless
    `request` brings others. `guard` may refuse the locked session.
    """
    with transaction.atomic(durable=True):
        key_row = reserve(key) if key else None
        locked_session, last_turn, _ = lock_open(session.pk)
        share_person(session, locked_session)
        # Most often it is the last turn, which the lock has read.
        if last_turn and (last_turn.pk == turn_id or last_turn.number == number):
            old_turn = last_turn
        else:
            old_turn = history.get_turn(locked_session, number, pk=turn_id)
        if key_row and key_row.turn:
            # This request was processed before: its question is stored already, unless the session stores
            # nothing.
            old_turn = key_row.turn
            edited_question = edited_question if locked_session.storage == Session.Storage.NONE else ()
        else:
            guard(locked_session)
        request = request or TurnRequest.objects.filter(turn=old_turn).first()
        prepared_turn = PreparedTurn.prepare(agent or old_turn.agent, request=request, model=old_turn.model)
        return attach_turn(key_row, claim_sibling(locked_session, old_turn, prepared_turn, edited_question))


@database.retry_conflicts
@transaction.atomic
def activate(session: Session, number: int) -> None:
    """Make the branch of this turn the transcript."""
    locked_session = history.lock_idle(session.pk).session
    turn = history.get_turn(locked_session, number)
    if not history.messages_of(turn):
        raise NotFound(f"Turn {number} has no messages to show.")
    history.activate(locked_session, turn)
