"""How turns end: once, whoever ends them, and with whatever there is of the reply."""

import math
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from convo.errors import ConvoError, Interrupted, TurnInProgress
from convo.history.branches import activate
from convo.history.lines import Draft
from convo.history.write import append, lock
from convo.models import Message, Session, Turn


def lock_free(session_id: UUID, *, queued: Turn | None = None) -> Session:
    """The session's row, locked, with no turn running or waiting before the caller's own queued one.

    Dead turns are ended here; a live one is refused.
    """
    session = lock(session_id)
    ahead = Turn.objects.unfinished().filter(session=session)
    if queued is not None:
        ahead = ahead.filter(id__lt=queued.pk)
    for turn in ahead.annotate(now=Now()).order_by("id"):
        assert turn.lease_until is not None  # both unfinished states have a lease
        left = (turn.lease_until - turn.now).total_seconds()  # type: ignore[attr-defined]
        if left > 0:
            raise TurnInProgress(
                f"Turn {turn.number} is {turn.status} in this session. Wait for it, or try again later.",
                retry_after=math.ceil(left),
                turn={"id": str(turn.key), "number": turn.number},
            )
        reap(session, turn)
    return session


def conclude(session: Session, turn: Turn, drafts: Sequence[Draft], **ending: Any) -> list[Message] | None:
    """End a turn of a locked session and insert its reply; None when it had been ended already."""
    unfinished = Turn.objects.unfinished().filter(pk=turn.pk)
    if not unfinished.update(draft="", lease_until=None, finished_at=Now(), **ending):
        return None
    rows = append(session, [(turn, draft) for draft in drafts])
    if rows and turn.asks_id:
        # Another answer, or an edited question with its answer, takes the place of what was there.
        activate(session, turn)
    return rows


def end_from_draft(session: Session, turn: Turn, error: ConvoError, *, status: str) -> None:
    """End a turn whose runner doesn't: what it had saved of the reply is kept."""
    drafts = [Draft(role="assistant", content=turn.draft, agent=turn.agent)] if turn.draft else []
    told = {"code": error.code, "message": error.message}
    conclude(session, turn, drafts, status=status, error=told, pieces=turn.pieces if turn.draft else [])


def reap(session: Session, turn: Turn) -> None:
    """End a turn whose process died."""
    status = Turn.Status.PARTIAL if turn.draft else Turn.Status.FAILED
    end_from_draft(session, turn, Interrupted(), status=status)
