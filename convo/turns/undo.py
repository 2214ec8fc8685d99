"""Deleting a conversation as people do: it is gone at once, and for a moment they may have it back."""

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
    """Let nobody find this conversation any more; the sweep deletes it when the time to undo that is over.

    A reply that is being written stops.
    """
    _hide(session.pk)
    stop_all(session.pk)


@database.retried
@transaction.atomic
def bring_back(session_id: UUID, owner: Any) -> Session:
    """The conversation of this owner as it was before it was discarded, if there is time left."""
    discarded = Session.objects.discarded(owner).filter(expires_at__gt=Now())
    session = discarded.select_for_update().filter(pk=session_id).first()
    if session is None:
        raise NotFound("It is too late to undo this: the conversation is gone.")
    assert session.state_before is not None  # it is one of those
    session.state, session.state_before, session.expires_at = session.state_before, None, None
    _save(session)
    return session


@database.retried
@transaction.atomic
def _hide(session_id: UUID) -> None:
    session = history.lock(session_id)
    session.state, session.state_before = Session.State.DELETED, session.state
    session.expires_at = database.in_seconds(conf().undo_seconds)
    _save(session)


def _save(session: Session) -> None:
    # What search and the background have read of the person's conversations is of another version now.
    session.epoch += 1
    session.save(update_fields=["state", "state_before", "expires_at", "epoch"])
