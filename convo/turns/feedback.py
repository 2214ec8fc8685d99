"""Feedback on replies: one thumb up or down for each reply, with an optional note."""

from django.db import transaction
from django.utils import timezone

from convo import database, history
from convo.errors import InvalidRequest, NotFound, TurnInProgress
from convo.models import Feedback, Session, Turn


@database.retry_conflicts
@transaction.atomic
def save_feedback(turn: Turn, value: str, note: str = "") -> Feedback:
    """Save `up` or `down` for a reply that has ended, in place of earlier feedback."""
    # The lock keeps the reply from being deleted meanwhile, which would leave feedback on nothing.
    session = history.lock(turn.session_id)
    current_turn = history.get_turn(session, turn.number)
    _check_ended(current_turn)
    if note and session.storage != Session.Storage.PERSISTENT:
        raise InvalidRequest("Nothing written in this session is kept. Leave the note out.", param="note")
    fields = {"value": Feedback.Value[value.upper()], "note": note, "created_at": timezone.now()}
    return Feedback.objects.update_or_create(turn=current_turn, defaults=fields)[0]


def delete_feedback(turn: Turn) -> None:
    Feedback.objects.filter(turn=turn).delete()


def _check_ended(turn: Turn) -> None:
    if turn.kind != Turn.Kind.REPLY:
        raise InvalidRequest(f"Turn {turn.number} was recorded. Only replies can have feedback.")
    if not turn.has_ended:
        raise TurnInProgress(
            f"Turn {turn.number} is {turn.status}. Give feedback when it has ended.",
            turn={"id": str(turn.key), "number": turn.number},
        )
    messages = turn.messages.all()
    # A reply that is not stored has no rows; one that was deleted has their tombstones.
    if messages and not messages.filter(erased_at=None):
        raise NotFound(f"The messages of turn {turn.number} have been deleted.")
