"""Delete or clear a conversation so that its owner can restore it for CONVO_UNDO_SECONDS."""

from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from convo import database, history
from convo.conf import conf
from convo.errors import NotFound
from convo.models import Session
from convo.turns.stop import stop_all


def discard(session: Session) -> None:
    """Hide the conversation and stop its reply; the sweep deletes it when the time to undo is over."""
    _hide(session.pk)
    stop_all(session.pk)


def clear(session: Session) -> Session | None:
    """Empty the conversation, stop its reply, and return the session that holds the cleared messages.

    The owner may restore that session for a while. Return None if the conversation was empty.
    """
    stop_all(session.pk)
    return _clear_for_undo(session.pk)


@database.retry_conflicts
@transaction.atomic
def restore(session_id: UUID, owner: Any) -> Session:
    """Restore a conversation that this owner deleted or cleared, if there is time left to undo that."""
    deleted_sessions = Session.objects.discarded(owner).filter(pk=session_id, expires_at__gt=Now())
    deleted_session = deleted_sessions.first()
    conversation = None
    if deleted_session and deleted_session.is_cleared_transcript:
        assert deleted_session.forked_from_id is not None
        # The conversation is locked before the session that was cleared from it: everything that locks both
        # does it in this order.
        conversation = history.lock_idle(deleted_session.forked_from_id).session
    session = deleted_sessions.select_for_update().first()
    if session is None:
        raise NotFound("It is too late to undo this: the conversation is gone.")
    if conversation:
        history.restore_cleared(session, conversation)
        return conversation
    assert session.state_before is not None  # every discarded session has it
    session.state, session.state_before, session.expires_at = session.state_before, None, None
    _save_state(session)
    return session


@database.retry_conflicts
@transaction.atomic
def _clear_for_undo(session_id: UUID) -> Session | None:
    return history.set_aside(history.lock_idle(session_id).session, conf().undo_seconds)


@database.retry_conflicts
@transaction.atomic
def _hide(session_id: UUID) -> None:
    session = history.lock(session_id)
    session.state, session.state_before = Session.State.DELETED, session.state
    session.expires_at = database.seconds_from_now(conf().undo_seconds)
    _save_state(session)


def _save_state(session: Session) -> None:
    # The new epoch outdates what search and the background have read of the person's conversations.
    session.epoch += 1
    session.save(update_fields=["state", "state_before", "expires_at", "epoch"])
