"""Lock a session in which no turn is unfinished: every write to a transcript begins with this."""

import math
from uuid import UUID

from django.db.models.functions import Now

from convo.errors import NotFound, TurnInProgress
from convo.history import statements
from convo.history.statements import LockedSession
from convo.history.turn_end import end_or_requeue
from convo.models import Session, Turn


def lock_idle(session_id: UUID, *, queued_turn: Turn | None = None) -> LockedSession:
    """Lock the session's row; return it with the last turn of its transcript, or raise TurnInProgress.

    It is raised while a turn runs, or waits ahead of `queued_turn`. Turns whose lease has run out are ended
    first.
    """
    locked = _lock(session_id)
    if not locked.is_busy:
        return locked
    _end_expired_turns(locked.session, queued_turn)
    # The turns that were ended here may have written to the transcript.
    return _lock(session_id)


def _lock(session_id: UUID) -> LockedSession:
    locked = statements.lock_session(session_id)
    if locked is None or locked.session.state == Session.State.DELETED:
        raise NotFound("There is no such session.")
    return locked


def _end_expired_turns(session: Session, queued_turn: Turn | None) -> None:
    turns_ahead = Turn.objects.ahead_of(queued_turn) if queued_turn else session.turns.unfinished()
    for turn in turns_ahead.annotate(now=Now()).order_by("id"):
        assert turn.lease_until is not None  # both unfinished states have a lease
        seconds_left = (turn.lease_until - turn.now).total_seconds()  # type: ignore[attr-defined]
        if seconds_left > 0:
            raise TurnInProgress(
                f"Turn {turn.number} is {turn.status} in this session. Wait for it, or try again later.",
                retry_after=math.ceil(seconds_left),
                turn={"id": str(turn.key), "number": turn.number},
            )
        if not end_or_requeue(session, turn):
            raise TurnInProgress(
                f"Turn {turn.number} is being restarted, because its process died. Try again later.",
                turn={"id": str(turn.key), "number": turn.number},
            )
