"""Stopping a turn from anywhere: ask its runner, wait a little, then take what it has saved."""

import time
from uuid import UUID

from django.db import transaction

from convo import database, history
from convo.conf import conf
from convo.errors import Cancelled
from convo.models import Session, Turn

POLL_SECONDS = 0.05


def cancel(turn: Turn) -> None:
    """End this turn if it hasn't ended; its text so far is kept. Returns when it has."""
    asked = Turn.objects.unfinished().filter(pk=turn.pk)
    if asked.update(cancel_requested=True) and not _ends_by_itself(turn):
        _take(turn)


def stop_running(key: UUID | str) -> None:
    """End the turn of this key, if it is running."""
    running = Turn.objects.running().filter(key=key).first()
    if running is not None:
        cancel(running)


def _ends_by_itself(turn: Turn) -> bool:
    deadline = time.monotonic() + conf().cancel_seconds
    while Turn.objects.unfinished().filter(pk=turn.pk).exists():
        if time.monotonic() > deadline:
            return False
        database.release()
        time.sleep(POLL_SECONDS)
    return True


@database.retried
@transaction.atomic
def _take(turn: Turn) -> None:
    session = Session.objects.locked(turn.session_id)
    fresh = Turn.objects.filter(pk=turn.pk).first()
    if session and fresh:
        history.end_from_draft(session, fresh, Cancelled(), status=Turn.Status.CANCELLED)
