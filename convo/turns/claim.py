"""The beginning of a turn: one short transaction that takes the session and writes the question down."""

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

from convo import database, history
from convo.conf import conf
from convo.errors import Cancelled, NotFound, SessionClosed, TurnInProgress
from convo.history import Draft, Line
from convo.models import Asked, Idempotency, Message, Session, Turn
from convo.turns.once import Key, enter
from convo.turns.sessions import stored
from convo.turns.start import Check, Start, anything
from convo.turns.stop import stop_running

# Names this process in the rows of the turns that it runs.
WORKER = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"


class OnBusy(StrEnum):
    """What to do when a turn is running in the session already."""

    REJECT = "reject"
    QUEUE = "queue"
    INTERRUPT = "interrupt"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A session taken for one turn, or a place in its queue: what the runner needs to know."""

    turn: Turn
    session_id: UUID
    agent: str
    question: tuple[Line, ...] = ()
    # The version of the transcript that the turn continues, and the last position of it.
    before: tuple[int, int] = (0, 0)
    upto: int = 0
    message_count: int = 0
    queued: bool = False
    asked: Asked | None = None


@database.retried
def begin(
    session: Session,
    question: Sequence[Draft],
    *,
    agent: str = "",
    on_busy: str = OnBusy.REJECT,
    key: Key | None = None,
    asked: Asked | None = None,
    check: Check = anything,
) -> Claim:
    """Take the session for one turn and append the question, or say why not and append nothing.

    A session that is not stored yet is stored with it. A key whose write was made before raises Done.
    What `asked` says is obeyed and kept with the turn; `check` may refuse the locked session.
    """
    start = Start.of(agent or session.agent, question, asked, check)
    try:
        return _begin(session, start, on_busy=on_busy, key=key)
    except TurnInProgress as busy:
        if on_busy != OnBusy.INTERRUPT:
            raise
        # This turn and no other: under a key that is sent twice, the next one may be its own.
        stop_running(busy.details["turn"]["id"])
    return _begin(session, start, on_busy=on_busy, key=key)


def _begin(session: Session, start: Start, *, on_busy: str, key: Key | None) -> Claim:
    with transaction.atomic(durable=True):
        row = enter(key) if key else None
        if row and row.turn:
            return bind(row, once_more(lock_open(row.turn.session_id), row.turn, start))
        if session._state.adding:
            # A copy, for what gives way to another transaction is tried again with what was given.
            session = stored(copy(session))[0]
        try:
            locked = lock_open(session.pk)
        except TurnInProgress:
            if on_busy != OnBusy.QUEUE:
                raise
            return bind(row, _line_up(history.lock(session.pk), start))
        start.check(locked)
        turn = new_turn(locked, **running(), **start.fields)
        return bind(row, claim(locked, turn, start.question, asked=start.noted(turn)))


def bind(row: Idempotency | None, made: Claim) -> Claim:
    """Note on the key's row which turn it made."""
    if row:
        row.turn = made.turn
        row.save(update_fields=["turn"])
    return made


def once_more(locked: Session, old: Turn, start: Start, edited: Sequence[Draft] = ()) -> Claim:
    """A turn beside this one: the same question, or an edited one, answered after the same past."""
    old.session = locked
    edge = history.boundary(old)
    asks = None if edited else old.asks or old
    lines = history.question_of(asks) if asks else []
    if asks and asks.input:
        # It waited in the queue and never was asked: its question is asked now, at the end.
        turn = new_turn(locked, **running(), **start.fields)
        return claim(locked, turn, drafts_of(asks), asked=start.noted(turn))
    if asks and not lines:
        raise NotFound(f"The question of turn {old.number} has been deleted.")
    start.check_fits(edited or lines)
    turn = new_turn(locked, parent_id=old.parent_id, root=True, asks=asks, **running(), **start.fields)
    if asks is None:
        # An edited question is its own; that it asks anew keeps it hidden until it is answered.
        turn.asks = turn
        turn.save(update_fields=["asks"])
    return claim(locked, turn, edited, lines=lines, upto=edge, active=False, asked=start.noted(turn))


def drafts_of(turn: Turn) -> list[Draft]:
    """The question that a queued turn has not asked yet."""
    return [Draft(**draft) for draft in history.drafts_of(turn)]


def claim(
    locked: Session,
    turn: Turn,
    question: Sequence[Draft],
    *,
    lines: Sequence[Line] = (),
    upto: int | None = None,
    active: bool = True,
    asked: Asked | None = None,
) -> Claim:
    """Append the question of a turn that has just started; what its runner needs to know."""
    before, count = locked.version, locked.message_count
    if upto is not None:
        # What stands in this turn's place, or behind it, is nothing that it leaves out.
        count -= Message.objects.transcript(locked).filter(position__gt=upto).count()
    rows = history.append(locked, [(turn, draft) for draft in question], active=active)
    return Claim(
        turn=turn,
        session_id=locked.pk,
        agent=turn.agent,
        question=(*lines, *(history.line_of(row, asked=True) for row in rows)),
        before=before,
        upto=before[1] if upto is None else upto,
        message_count=count,
        asked=asked,
    )


@database.retried
def take(place: Claim) -> Claim | None:
    """Start a queued turn when it is its turn; None while others are ahead."""
    with transaction.atomic(durable=True):
        try:
            locked = lock_open(place.session_id, queued=place.turn)
        except TurnInProgress:
            return None
        turn = Turn.objects.queued().filter(pk=place.turn.pk).first()
        if turn is None:
            raise Cancelled
        turn.session = locked
        question = drafts_of(turn)
        asked = Asked.objects.filter(turn=turn).first()
        if not question:
            # It had begun in a process that died: its question is written down.
            lines = history.question_of(turn)
            Turn.objects.filter(pk=turn.pk).update(**running(), epoch=locked.epoch)
            return claim(locked, turn, [], lines=lines, upto=history.boundary(turn), asked=asked)
        parent = Message.objects.transcript(locked).values_list("turn_id", flat=True).last()
        Turn.objects.filter(pk=turn.pk).update(**running(), input=[], parent=parent, epoch=locked.epoch)
        history.tidy(locked)
        return claim(locked, turn, question, asked=asked)


def running() -> dict[str, Any]:
    """What makes a turn a running one, of this process."""
    lease = database.in_seconds(conf().lease_seconds)
    return {"status": Turn.Status.RUNNING, "worker": WORKER, "lease_until": lease, "started_at": Now()}


def _line_up(locked: Session, start: Start) -> Claim:
    start.check(locked)
    waiting = Turn.objects.queued().filter(session=locked).count()
    if waiting >= conf().queue_length:
        raise TurnInProgress(
            f"{waiting} questions wait in this session already. Try again later.", retry_after=1
        )
    turn = new_turn(
        locked,
        status=Turn.Status.QUEUED,
        **start.fields,
        worker=WORKER,
        lease_until=database.in_seconds(conf().lease_seconds),
        input=history.drafts_aside(locked, locked.last_turn + 1, list(map(asdict, start.question))),
    )
    locked.save(update_fields=["last_turn", "turn_count"])
    asked = start.noted(turn)
    return Claim(turn=turn, session_id=locked.pk, agent=turn.agent, queued=True, asked=asked)


def lock_open(session_id: UUID, *, queued: Turn | None = None) -> Session:
    """The session's row, locked, when it takes new messages."""
    session = history.lock_free(session_id, queued=queued)
    if session.state != Session.State.OPEN:
        raise SessionClosed(f"This session is {session.state}. Set its state to `open` to go on with it.")
    return session


def new_turn(session: Session, *, parent_id: int | None = None, root: bool = False, **fields: Any) -> Turn:
    """The next turn of a locked session; it continues what the transcript ends with, if nothing else."""
    if parent_id is None and not root:
        parent_id = Message.objects.transcript(session).values_list("turn_id", flat=True).last()
    session.last_turn += 1
    session.turn_count += 1
    if session.kind == Session.Kind.CHAIN or session.storage != Session.Storage.KEPT:
        # Nothing is thought about it afterwards.
        fields |= {"indexed_at": Now(), "learned_at": Now()}
    return Turn.objects.create(
        session=session, number=session.last_turn, parent_id=parent_id, epoch=session.epoch, **fields
    )
