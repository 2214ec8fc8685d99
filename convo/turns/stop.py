"""Stop turns of any process: ask the runner, wait a little, then end the turn with its saved draft."""

import time
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from convo import database, history
from convo.conf import conf
from convo.errors import TurnCancelled
from convo.models import Session, Turn

POLL_SECONDS = 0.05


def cancel(turn: Turn) -> None:
    """End this turn, if it hasn't ended, and keep its text so far. Return when it has ended."""
    _stop(Turn.objects.unfinished().filter(pk=turn.pk))


def stop_all(session_id: UUID) -> None:
    _stop(Turn.objects.unfinished().filter(session=session_id))


def stop_running(key: UUID | str) -> None:
    turn = Turn.objects.running().filter(key=key).first()
    if turn is not None:
        cancel(turn)


def _stop(turns: QuerySet[Turn]) -> None:
    if turns.update(cancel_requested=True) and not _wait_until_ended(turns):
        for turn in turns.order_by("id"):
            _end_from_draft(turn)


def _wait_until_ended(turns: QuerySet[Turn]) -> bool:
    deadline = time.monotonic() + conf().cancel_seconds
    while turns.exists():
        if time.monotonic() > deadline:
            return False
        database.close_connections()
        time.sleep(POLL_SECONDS)
    return True


@database.retry_conflicts
@transaction.atomic
def _end_from_draft(turn: Turn) -> None:
    session = Session.objects.lock(turn.session_id)
    current_turn = Turn.objects.filter(pk=turn.pk).first()
    if session and current_turn:
        history.end_turn_from_draft(session, current_turn, TurnCancelled(), status=Turn.Status.CANCELLED)
