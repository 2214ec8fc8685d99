"""How turns end: once, whoever ends them, and with whatever there is of the reply."""

import math
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Now

from convo import database
from convo.conf import conf
from convo.errors import ConvoError, Interrupted, TextGone, TurnInProgress
from convo.history import fleeting
from convo.history.branches import activate
from convo.history.lines import Draft
from convo.history.replies import draft_of, kept_of, pieces_of, reply_drafts
from convo.history.write import append, lock
from convo.models import Asked, Message, Session, Turn

MOST_ATTEMPTS = 3


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
        if not reap(session, turn):
            raise TurnInProgress(
                f"Turn {turn.number} is begun anew, for its process died. Try again later.",
                retry_after=1,
                turn={"id": str(turn.key), "number": turn.number},
            )
    return session


def conclude(session: Session, turn: Turn, drafts: Sequence[Draft], **ending: Any) -> list[Message] | None:
    """End a turn of a locked session and insert its reply; None when it had been ended already."""
    if drafts and fleeting.is_lost(session):
        # The question is gone, and an answer alone is no conversation.
        drafts, ending = (
            (),
            {**ending, "status": Turn.Status.FAILED, "error": _told(TextGone()), "pieces": []},
        )
    is_apart, pieces = fleeting.is_fleeting(session), ending.get("pieces", [])
    if is_apart:
        ending["pieces"] = []
    unfinished = Turn.objects.unfinished().filter(pk=turn.pk)
    if not unfinished.update(draft="", lease_until=None, finished_at=Now(), **ending):
        return None
    rows = append(session, [(turn, draft) for draft in drafts])
    if is_apart:
        fleeting.keep_cuts(session, turn, pieces)
    if rows and turn.asks_id:
        # Another answer, or an edited question with its answer, takes the place of what was there.
        activate(session, turn)
    return rows


def end_from_draft(session: Session, turn: Turn, error: ConvoError, *, status: str = "") -> None:
    """End a turn whose runner doesn't: what it had saved of the reply is kept."""
    turn.session = session
    strands = draft_of(turn)
    kept = kept_of(strands)
    pieces = pieces_of(strands, kept)
    status = status or (Turn.Status.PARTIAL if kept else Turn.Status.FAILED)
    conclude(session, turn, reply_drafts(turn, kept), status=status, error=_told(error), pieces=pieces)


def _told(error: ConvoError) -> dict[str, str]:
    return {"code": error.code, "message": error.message}


def reap(session: Session, turn: Turn) -> bool:
    """End a turn whose process died; False when it is to be begun anew instead."""
    if begin_anew(turn):
        return False
    end_from_draft(session, turn, Interrupted())
    return True


def begin_anew(turn: Turn) -> bool:
    """Put a background turn that has said nothing back in the queue, a few times; was it put there?"""
    if turn.draft:
        return False
    asked = Asked.objects.filter(turn=turn, background=True, attempts__lt=MOST_ATTEMPTS)
    unfinished = Turn.objects.unfinished().filter(pk=turn.pk)
    if not (unfinished.exists() and asked.update(attempts=F("attempts") + 1)):
        return False
    # So long it waits for a process that takes it over.
    lease = database.in_seconds(conf().queue_seconds)
    unfinished.update(status=Turn.Status.QUEUED, worker="", lease_until=lease)
    return True
