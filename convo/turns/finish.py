"""End turns: the reply's messages are written once, at the end, unless something else ended the turn."""

import logging
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from uuid import UUID

from django.db import IntegrityError, transaction

from convo import database, history, memory
from convo.errors import ConvoError, ServerShutdown, TurnCancelled, error_from_json
from convo.history import TranscriptMessage, TurnEnding, statements
from convo.history.statements import PromptRecord
from convo.jobs import quick_batch_job
from convo.models import Message, Person, Session, Turn
from convo.turns.assemble import AssembledRequest
from convo.turns.claim import Claim
from convo.turns.reply import ReplyBuilder

logger = logging.getLogger(__name__)

# These details of an error are stored with its code and message, so that it can be raised again as it was.
_STORED_DETAILS = ("retry_after", "upstream_status", "upstream_code", "upstream_param")


@dataclass(frozen=True)
class TurnResult:
    """A turn that has ended, and the messages of its reply."""

    turn: Turn
    messages: Sequence[Message]

    @property
    def message(self) -> Message | None:
        """The message with the reply's text, or the reply's first item if it has no text."""
        texts = [message for message in self.messages if message.type == "message"]
        return next(iter([*texts, *self.messages]), None)

    @property
    def failure(self) -> ConvoError | None:
        """The error that kept the reply from being complete; None for a reply that only reached its limit."""
        if not self.turn.error:
            return None
        error = error_from_json(self.turn.error)
        return None if error.status < 400 else error


def finish(
    claim: Claim, reply: ReplyBuilder, error: ConvoError | None, assembled: AssembledRequest | None = None
) -> TurnResult | None:
    """Store the reply and end the turn; None if the turn had ended before, or goes back into the queue."""
    try:
        return _finish(claim, reply, error, assembled)
    except IntegrityError as failure:
        if not claim.turn._state.adding:
            raise
        # A passed-through chat stores nothing until now. Its owner is gone, such as a guest who has signed
        # in, or an earlier attempt was committed although its answer was lost.
        logger.warning("the usage of a chat was not written: %s", database.describe_failure(failure))
        turn, ending = copy(claim.turn), _ending(claim.turn.session, reply, error, assembled)
        return TurnResult(turn, history.set_ending(turn.session, turn, ending))


@database.retry_conflicts
def _finish(
    claim: Claim, reply: ReplyBuilder, error: ConvoError | None, assembled: AssembledRequest | None
) -> TurnResult | None:
    # The readers of the turn hold the claim's: this copy changes, and needs no reading again.
    turn = copy(claim.turn)
    with transaction.atomic():
        session = _locked_session(claim)
        if session is None:
            return None
        is_kept = session.storage == Session.Storage.PERSISTENT
        is_new = turn._state.adding
        ending = _ending(session, reply, error, assembled)
        is_shut_down = isinstance(error, ServerShutdown) and not ending.stored_items
        if is_shut_down and not is_new and history.requeue(turn):
            return None
        rows = (history.insert_ended_turn if is_new else history.end_turn)(session, turn, ending)
        if rows is None:
            return None
        turn.session, turn._state.fields_cache["feedback"] = session, None
        if (end_reason := error or reply.limit) and turn.error and turn.error["code"] == end_reason.code:
            # The waiting client gets the whole error, even if the row keeps only its code and general
            # message.
            turn.error = _error_json(end_reason)
        if is_kept and session.kind == Session.Kind.CONVERSATION:
            memory.schedule(session, [turn])
    window = [*assembled.newest_messages, *claim.question] if assembled else []
    # The window of a regenerated reply ends where it branches off, and without a text it is no branch.
    if window and is_kept and session.epoch == claim.version[0] and turn.question_turn_id is None:
        messages = [*window, *map(TranscriptMessage.of, rows)]
        history.window.store(session.pk, session.version, messages)
    if any(message.agent for message in claim.question):
        # Compaction items were appended with the question; include them in the result.
        rows = [row for row in history.messages_of(turn) if row.agent]
    return TurnResult(turn, rows)


def _ending(
    session: Session, reply: ReplyBuilder, error: ConvoError | None, assembled: AssembledRequest | None
) -> TurnEnding:
    end_reason = error or reply.limit
    input_tokens, output_tokens, cached_tokens = reply.tokens()
    stored_items = reply.items_to_store(is_broken=error is not None)
    return TurnEnding(
        status=_status(end_reason, has_text=bool(stored_items)),
        error=_stored_error(session, end_reason),
        items=reply.items,
        stored_items=stored_items,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached_tokens,
        # By the distance to now: the moments are those of this process's monotonic clock.
        started_seconds=reply.started_at - time.monotonic(),
        first_token_seconds=reply.first_token_at and reply.first_token_at - time.monotonic(),
        prompt=_with_finish_word(assembled.prompt, reply.unknown_finish_reason) if assembled else None,
    )


def _locked_session(claim: Claim) -> Session | None:
    if not claim.turn._state.adding:
        locked = statements.lock_session(claim.session_id)
        return locked.session if locked else None
    # Nobody else can know a session that is not stored yet.
    session = claim.turn.session
    session.person = Person.objects.get_or_create_by_ref(session.owner, session.person.ref)
    return session


@quick_batch_job
def end_expired_turns() -> int:
    """End every turn whose process died, keep the drafts, and return the number of these turns."""
    expired_turns = list(Turn.objects.expired().values_list("session_id", "id"))
    return sum(_reap(session_id, turn_id) for session_id, turn_id in expired_turns)


@transaction.atomic
def _reap(session_id: UUID, turn_id: int) -> bool:
    session = Session.objects.lock(session_id)
    turn = Turn.objects.expired().filter(pk=turn_id).first()
    if session is None or turn is None:
        return False
    return history.end_or_requeue(session, turn)


def _status(error: ConvoError | None, *, has_text: bool) -> str:
    if isinstance(error, TurnCancelled):
        return Turn.Status.CANCELLED
    if error is None:
        return Turn.Status.COMPLETE
    return Turn.Status.PARTIAL if has_text else Turn.Status.FAILED


def _stored_error(session: Session, error: ConvoError | None) -> dict[str, object] | None:
    error_json = _error_json(error)
    is_kept = session.storage == Session.Storage.PERSISTENT
    # A model server may quote the question in its message, so only a session that is kept stores the message.
    return error_json if error_json is None or is_kept else {**error_json, "message": type(error).__doc__}


def _error_json(error: ConvoError | None) -> dict[str, object] | None:
    if error is None:
        return None
    all_details = {"retry_after": error.retry_after, **error.details}
    stored_details = {
        name: all_details[name] for name in _STORED_DETAILS if all_details.get(name) is not None
    }
    return {"code": error.code, "message": error.message, **stored_details}


def _with_finish_word(prompt: PromptRecord, finish_word: str) -> PromptRecord:
    """Return the record with the model server's own word for the end of its reply, if it is unknown."""
    return (
        replace(prompt, manifest={**prompt.manifest, "finish_word": finish_word}) if finish_word else prompt
    )
