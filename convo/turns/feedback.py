"""What somebody thinks of a reply: one thumb a reply, with or without a word on why."""

from django.db import transaction
from django.utils import timezone

from convo import database, history
from convo.errors import InvalidRequest, NotFound, TurnInProgress
from convo.models import Feedback, Session, Turn


@database.retried
@transaction.atomic
def give(turn: Turn, value: str, note: str = "") -> Feedback:
    """Keep a thumb, `up` or `down`, on a reply that has ended, in place of the one before."""
    # Under the lock nobody deletes the reply, and so the note on it would be one on nothing.
    session = history.lock(turn.session_id)
    fresh = history.turn_of(session, turn.number)
    _check_ended(fresh)
    if note and session.storage != Session.Storage.KEPT:
        raise InvalidRequest("Nothing written in this session is kept. Leave the note out.", param="note")
    given = {"value": Feedback.Value[value.upper()], "note": note, "created_at": timezone.now()}
    return Feedback.objects.update_or_create(turn=fresh, defaults=given)[0]


def take_back(turn: Turn) -> None:
    """Forget what was thought of this reply, if anything was."""
    Feedback.objects.filter(turn=turn).delete()


def _check_ended(turn: Turn) -> None:
    if turn.kind != Turn.Kind.REPLY:
        raise InvalidRequest(f"Turn {turn.number} was recorded. Only a reply has feedback.")
    if not turn.ended:
        raise TurnInProgress(
            f"Turn {turn.number} is {turn.status}. Say what you think of it when it has ended.",
            retry_after=1,
            turn={"id": str(turn.key), "number": turn.number},
        )
    said = turn.messages.all()
    # A reply that is not kept as rows has none; one that was deleted has their tombstones.
    if said and not said.filter(erased_at=None):
        raise NotFound(f"What was said in turn {turn.number} has been deleted.")
