"""The end of a turn: the status is the fence, and the reply's rows are written once, whole."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models.expressions import Combinable

from convo import database, history, memory
from convo.errors import Cancelled, ConvoError, ServerShutdown, by_code
from convo.history import Line
from convo.jobs import swept_anywhere
from convo.models import Message, Session, Turn
from convo.turns.claim import Claim
from convo.turns.reply import Reply

# What is kept of a failure beside its code and message, so that it can be told as it was.
_TOLD_AGAIN = ("retry_after", "upstream_status")


@dataclass(frozen=True)
class Result:
    """A turn that has ended, and the messages of its reply."""

    turn: Turn
    messages: Sequence[Message]

    @property
    def message(self) -> Message | None:
        """The reply's text, or its first tool call where it has none."""
        texts = [message for message in self.messages if message.type == "message"]
        return next(iter([*texts, *self.messages]), None)

    @property
    def failure(self) -> ConvoError | None:
        """Why there is no whole reply; a reply that reached its limit is no failure."""
        if not self.turn.error:
            return None
        told = dict(self.turn.error)
        kind = by_code(told.pop("code"))
        return None if kind.status < 400 else kind(told.pop("message"), **told)


@database.retried
def finish(claim: Claim, reply: Reply, error: ConvoError | None, seen: Sequence[Line]) -> Result | None:
    """Write the reply down and end the turn; None when it had ended before, by a clear or a takeover."""
    limited = error or reply.limit
    spent_in, spent_out, cached = reply.tokens()
    kept = reply.kept(broken=error is not None)
    drafts = history.reply_drafts(claim.turn, kept)
    with transaction.atomic():
        session = Session.objects.locked(claim.session_id)
        if session is None:
            return None
        is_kept = session.storage == Session.Storage.KEPT
        is_told = session.storage != Session.Storage.NONE
        if isinstance(error, ServerShutdown) and not drafts and history.begin_anew(claim.turn):
            return None
        rows = history.conclude(
            session,
            claim.turn,
            drafts,
            status=_status(limited, has_text=bool(drafts)),
            error=_noted(session, limited),
            pieces=history.pieces_of(reply.strands, kept) if is_told else [],
            input_tokens=spent_in,
            output_tokens=spent_out,
            cached_tokens=cached,
            first_token_at=_moment(reply.first_at),
        )
        if rows is None:
            return None
        turn = Turn.objects.select_related("feedback").get(pk=claim.turn.pk)
        if is_kept and session.kind == Session.Kind.CONVERSATION:
            memory.hint(session, [turn])
    if seen and is_kept and session.epoch == turn.epoch:
        lines = [*seen, *(history.line_of(row, asked=True) for row in rows)]
        history.keep_window(session.pk, session.version, lines)
    if any(line.agent for line in claim.question):
        # Something of the reply was there before the model spoke.
        rows = [row for row in history.messages_of(turn) if row.agent]
    return Result(turn, rows)


@swept_anywhere
def reap() -> int:
    """End every turn whose process died, keeping what it had saved; how many those were."""
    expired = list(Turn.objects.expired().values_list("session_id", "id"))
    return sum(_reap(session_id, turn_id) for session_id, turn_id in expired)


@transaction.atomic
def _reap(session_id: UUID, turn_id: int) -> bool:
    session = Session.objects.locked(session_id)
    turn = Turn.objects.expired().filter(pk=turn_id).first()
    if session is None or turn is None:
        return False
    return history.reap(session, turn)


def _status(error: ConvoError | None, *, has_text: bool) -> str:
    if isinstance(error, Cancelled):
        return Turn.Status.CANCELLED
    if error is None:
        return Turn.Status.COMPLETE
    return Turn.Status.PARTIAL if has_text else Turn.Status.FAILED


def _noted(session: Session, error: ConvoError | None) -> dict[str, object] | None:
    """What is kept of a failure; in a temporary chat not what a server said, for it may quote the chat."""
    told = _error(error)
    return {**told, "message": type(error).__doc__} if told and history.is_fleeting(session) else told


def _error(error: ConvoError | None) -> dict[str, object] | None:
    if error is None:
        return None
    told = {"retry_after": error.retry_after, **error.details}
    more = {name: told[name] for name in _TOLD_AGAIN if told.get(name) is not None}
    return {"code": error.code, "message": error.message, **more}


def _moment(monotonic: float | None) -> Combinable | None:
    """A moment of this process's clock as the database's: their difference to now is the same."""
    return None if monotonic is None else database.in_seconds(monotonic - time.monotonic())
