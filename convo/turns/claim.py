"""Begin turns: one short transaction claims the session and stores the question."""

import os
import secrets
import socket
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from convo import database, history
from convo.conf import conf
from convo.errors import NotFound, SessionClosed, TurnCancelled, TurnInProgress
from convo.history import BranchPoint, LockedSession, NewMessage, TranscriptMessage
from convo.models import IdempotencyRecord, Message, Session, Turn, TurnRequest
from convo.turns.idempotency import IdempotencyKey, reserve
from convo.turns.prepare import PreparedTurn, SessionGuard, no_guard
from convo.turns.sessions import share_person, store_person, store_session
from convo.turns.stop import stop_running

# The name of this process in the rows of the turns that it runs.
WORKER_ID = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"
_NOW = Now()  # its SQL is compiled once


class OnBusy(StrEnum):
    """The ways to handle a question while another turn runs in its session."""

    REJECT = "reject"
    QUEUE = "queue"
    INTERRUPT = "interrupt"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to run one turn, or a place in the queue, with all that the runner needs."""

    turn: Turn
    session_id: UUID
    agent: str
    question: tuple[TranscriptMessage, ...] = ()
    # The version of the transcript before this turn, and the last position that the turn continues from.
    version: tuple[int, int] = (0, 0)
    upto: int = 0
    message_count: int = 0
    is_queued: bool = False
    # The question of a queued turn whose session stores nothing: while it waits, only this process has it.
    unstored_question: Sequence[NewMessage] = ()
    request: TurnRequest | None = None


@database.retry_conflicts
def begin(
    session: Session,
    question: Sequence[NewMessage],
    *,
    agent: str = "",
    on_busy: str = OnBusy.REJECT,
    key: IdempotencyKey | None = None,
    request: TurnRequest | None = None,
    guard: SessionGuard = no_guard,
) -> Claim:
    """Claim the session for one turn and append the question, or raise an error and append nothing.

    A session that is not stored yet is stored too. An idempotency key whose request was processed before
    raises AlreadyProcessed. The turn follows the options in `request` and stores them; `guard` may refuse the
    locked session.
    """
    prepared_turn = PreparedTurn.prepare(agent or session.agent, question, request, guard)
    try:
        return _try_to_begin(session, prepared_turn, on_busy=on_busy, key=key)
    except TurnInProgress as error:
        if on_busy != OnBusy.INTERRUPT:
            raise
        # Only the turn that the error names is stopped: the next one may be the caller's own, begun by an
        # earlier request with the same key.
        stop_running(error.details["turn"]["id"])
    return _try_to_begin(session, prepared_turn, on_busy=on_busy, key=key)


def begin_unstored(session: Session, *, agent: str, request: TurnRequest) -> Claim:
    """Begin the one turn of a new session that stores no messages, and store nothing.

    The usage is stored when the turn has ended. Nobody can find the turn before, so no row is locked and no
    lease renewed.
    """
    prepared_turn, now = PreparedTurn.prepare(agent, request=request), timezone.now()
    times = {"started_at": now, "indexed_at": now, "learned_at": now}
    turn = new_turn(session, status=Turn.Status.RUNNING, **prepared_turn.turn_fields, **times)
    return Claim(turn=turn, session_id=session.pk, agent=turn.agent, request=prepared_turn.save_request(turn))


def _try_to_begin(
    session: Session, prepared_turn: PreparedTurn, *, on_busy: str, key: IdempotencyKey | None
) -> Claim:
    with transaction.atomic(durable=True):
        key_row = reserve(key) if key else None
        if key_row and key_row.turn and key_row.turn.session.storage != Session.Storage.NONE:
            # The question is stored already and must not be stored twice.
            locked_session = lock_open(key_row.turn.session_id).session
            return attach_turn(key_row, claim_sibling(locked_session, key_row.turn, prepared_turn))
        if session._state.adding:
            # A copy is stored: if the transaction is retried, the caller's session must still be a new one.
            session = copy(session)
            if session.ref is None and not session.forked_from_id:
                # Nobody else knows its id yet, so no lock is needed: one statement inserts it and the turn.
                return attach_turn(key_row, _claim_next_turn(store_person(session), None, prepared_turn))
            session = store_session(session)[0]
        try:
            locked_session, last_turn, _ = lock_open(session.pk)
        except TurnInProgress:
            if on_busy != OnBusy.QUEUE:
                raise
            return attach_turn(key_row, _enqueue(history.lock(session.pk), prepared_turn))
        share_person(session, locked_session)
        return attach_turn(key_row, _claim_next_turn(locked_session, last_turn, prepared_turn))


def _claim_next_turn(session: Session, last_turn: Turn | None, prepared_turn: PreparedTurn) -> Claim:
    prepared_turn.guard(session)
    turn = new_turn(session, parent=last_turn, **running_fields(), **prepared_turn.turn_fields)
    return claim_turn(session, turn, prepared_turn.question, prepared_turn)


def attach_turn(key_row: IdempotencyRecord | None, new_claim: Claim) -> Claim:
    if key_row:
        key_row.turn = new_claim.turn
        key_row.save(update_fields=["turn"])
    return new_claim


def claim_sibling(
    session: Session, old_turn: Turn, prepared_turn: PreparedTurn, edited_question: Sequence[NewMessage] = ()
) -> Claim:
    """Claim a sibling of this turn, for the same or an edited question after the same earlier messages."""
    old_turn.session = session
    branch_point = history.branch_point(old_turn)
    question_id = None if edited_question else old_turn.question_turn_id or old_turn.pk
    stored_question = _stored_question(old_turn) if question_id else []
    if question_id and not stored_question:
        question_turn = old_turn.question_turn or old_turn
        if question_turn.input:
            # The turn never left the queue, so its question is appended now, at the transcript's end.
            fields = {"parent_id": _last_turn_id(session), **running_fields(), **prepared_turn.turn_fields}
            turn = new_turn(session, **fields)
            return claim_turn(session, turn, queued_question(question_turn), prepared_turn)
        raise NotFound(
            f"The question of turn {old_turn.number} is not stored: it was deleted, or its session stores "
            "nothing. Ask it again in a new turn."
        )
    prepared_turn.check_fits(edited_question or stored_question)
    turn = new_turn(
        session,
        parent_id=old_turn.parent_id,
        question_turn_id=question_id,
        **running_fields(),
        **prepared_turn.turn_fields,
    )
    claim = claim_turn(
        session,
        turn,
        edited_question,
        prepared_turn,
        stored_question=stored_question,
        branch_point=branch_point,
        active=False,
    )
    if question_id is None:
        # An edited question belongs to the new turn. Its `question_turn` marks it as an alternative, which
        # stays hidden until it is answered.
        turn.question_turn = turn
        turn.save(update_fields=["question_turn"])
    return claim


def _stored_question(turn: Turn) -> list[TranscriptMessage]:
    return list(map(TranscriptMessage.of, history.question_of(turn)))


def queued_question(turn: Turn) -> list[NewMessage]:
    return [NewMessage(**fields) for fields in history.turn_contents.load_question(turn)]


def claim_turn(
    session: Session,
    turn: Turn,
    question: Sequence[NewMessage],
    prepared_turn: PreparedTurn | None = None,
    *,
    stored_question: Sequence[TranscriptMessage] = (),
    branch_point: BranchPoint | None = None,
    active: bool = True,
    request: TurnRequest | None = None,
) -> Claim:
    """Append the question of a turn that starts now, and return the claim for its runner.

    A new turn is stored too, with the request that its `prepared_turn` has.
    """
    version, message_count = session.version, session.message_count
    upto = version[1]
    if branch_point is not None:
        # The later messages belong to the other branch, so the manifest must not count them as left out.
        upto, message_count = branch_point.position, message_count - branch_point.later_messages
    rows = history.append(session, [(turn, question)], active=active)
    return Claim(
        turn=turn,
        session_id=session.pk,
        agent=turn.agent,
        question=(*stored_question, *map(TranscriptMessage.of, rows)),
        version=version,
        upto=upto,
        message_count=message_count,
        request=prepared_turn.save_request(turn) if prepared_turn else request,
    )


@database.retry_conflicts
def start_queued(queued_claim: Claim) -> Claim | None:
    """Start a queued turn, or return None while other turns are ahead of it."""
    if Turn.objects.ahead_of(queued_claim.turn).filter(lease_until__gte=Now()).exists():
        # This is the usual case. It leaves the row lock alone, which the turns ahead need in order to end.
        return None
    with transaction.atomic(durable=True):
        try:
            session, last_turn, _ = lock_open(queued_claim.session_id, queued_turn=queued_claim.turn)
        except TurnInProgress:
            return None
        turn = Turn.objects.queued().filter(pk=queued_claim.turn.pk).first()
        if turn is None:
            raise TurnCancelled
        turn.session = session
        question = queued_claim.unstored_question or queued_question(turn)
        request = TurnRequest.objects.filter(turn=turn).first() or queued_claim.request
        if not question:
            # The turn was begun by a process that died, so its question is in the transcript already.
            stored_question = _stored_question(turn)
            Turn.objects.filter(pk=turn.pk).update(**running_fields(), epoch=session.epoch)
            return claim_turn(
                session,
                turn,
                [],
                stored_question=stored_question,
                branch_point=history.branch_point(turn),
                request=request,
            )
        Turn.objects.filter(pk=turn.pk).update(
            **running_fields(), input=[], parent=last_turn, epoch=session.epoch
        )
        history.ephemeral.prune_contents(session)
        return claim_turn(session, turn, question, request=request)


def running_fields() -> dict[str, Any]:
    """Return the column values of a turn that this process runs."""
    lease = database.seconds_from_now(conf().lease_seconds)
    return {"status": Turn.Status.RUNNING, "worker": WORKER_ID, "lease_until": lease, "started_at": _NOW}


def _enqueue(session: Session, prepared_turn: PreparedTurn) -> Claim:
    prepared_turn.guard(session)
    waiting_count = Turn.objects.queued().filter(session=session).count()
    if waiting_count >= conf().queue_length:
        raise TurnInProgress(
            f"{waiting_count} questions are already waiting in this session. Try again later."
        )
    turn = new_turn(
        session,
        parent_id=_last_turn_id(session),
        status=Turn.Status.QUEUED,
        **prepared_turn.turn_fields,
        worker=WORKER_ID,
        lease_until=database.seconds_from_now(conf().lease_seconds),
        input=history.turn_contents.save_question(
            session, session.last_turn + 1, list(map(asdict, prepared_turn.question))
        ),
    )
    history.append(session, [(turn, [])])
    request = prepared_turn.save_request(turn)
    return Claim(
        turn=turn,
        session_id=session.pk,
        agent=turn.agent,
        is_queued=True,
        unstored_question=prepared_turn.question if session.storage == Session.Storage.NONE else (),
        request=request,
    )


def _last_turn_id(session: Session) -> int | None:
    return Message.objects.transcript(session).values_list("turn_id", flat=True).last()


def lock_open(session_id: UUID, *, queued_turn: Turn | None = None) -> LockedSession:
    """Lock an open session in which no turn is unfinished, as `history.lock_idle` does."""
    locked = history.lock_idle(session_id, queued_turn=queued_turn)
    if locked.session.state != Session.State.OPEN:
        state = locked.session.state
        raise SessionClosed(f"This session is {state}. Set its state to `open` to continue it.")
    return locked


def new_turn(session: Session, **fields: object) -> Turn:
    """Return the next turn of a locked session and count it; `history.append` stores both."""
    session.last_turn += 1
    session.turn_count += 1
    if session.kind == Session.Kind.CHAIN or session.storage != Session.Storage.PERSISTENT:
        # Such a turn is neither indexed nor learned from afterwards.
        fields = {"indexed_at": _NOW, "learned_at": _NOW, **fields}
    return Turn(session=session, number=session.last_turn, epoch=session.epoch, **fields)
