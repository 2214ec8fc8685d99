"""Stopping a turn from anywhere: ask its runner, wait a little, then take what it has saved."""

import time
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from convo import database, history
from convo.conf import conf
from convo.errors import Cancelled
from convo.models import Session, Turn

POLL_SECONDS = 0.05


def cancel(turn: Turn) -> None:
    """End this turn if it hasn't ended; its text so far is kept. Returns when it has."""
    _stop(Turn.objects.unfinished().filter(pk=turn.pk))


def stop_all(session_id: UUID) -> None:
    """End what runs or waits in this session. Returns when all of it has ended."""
    _stop(Turn.objects.unfinished().filter(session=session_id))


def stop_running(key: UUID | str) -> None:
    """End the turn of this key, if it is running."""
    running = Turn.objects.running().filter(key=key).first()
    if running is not None:
        cancel(running)


def _stop(unfinished: QuerySet[Turn]) -> None:
    if unfinished.update(cancel_requested=True) and not _end_by_themselves(unfinished):
        for turn in unfinished.order_by("id"):
            _take(turn)


def _end_by_themselves(unfinished: QuerySet[Turn]) -> bool:
    deadline = time.monotonic() + conf().cancel_seconds
    while unfinished.exists():
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
