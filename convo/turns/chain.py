"""Chains of turns outside of any conversation: a request starts one, or continues from an earlier turn."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from convo import agents, database, history
from convo.conf import conf
from convo.errors import BranchNotActive, NotFound, TurnInProgress
from convo.history import NewMessage
from convo.jobs import quick_batch_job
from convo.models import Message, Session, Turn, TurnRequest
from convo.turns.claim import Claim, begin
from convo.turns.idempotency import IdempotencyKey
from convo.turns.prepare import SessionGuard
from convo.turns.sessions import new_session

_BATCH_SIZE = 100
UNSTORED_CHAIN_LIFETIME = timedelta(hours=1)


class _NoLongerLast(Exception):
    """Not an error: the turn to continue from is no longer the last one of its chain."""


def new_chain(owner: Any, person: str, *, storage: str = Session.Storage.PERSISTENT) -> Session:
    """Return a chain that is not stored yet; with storage `none` its messages never will be."""
    fields = {"kind": Session.Kind.CHAIN, "storage": storage, "expires_at": _chain_expiry()}
    return new_session(owner, person, agent=agents.PASSTHROUGH, **fields)


def continue_from(
    previous: Turn,
    question: Sequence[NewMessage],
    *,
    request: TurnRequest,
    agent: str,
    key: IdempotencyKey | None,
    guard: SessionGuard,
    store: bool,
) -> Claim:
    """Begin a turn that continues `previous`: in its chain if it is the last turn there, else in a copy.

    The copy holds the path to `previous`, so any number of callers can continue from the same turn without
    waiting for one another. A turn that must not be stored goes into a copy that is deleted soon.
    """

    def check_is_last(session: Session) -> None:
        if session.last_turn != previous.number:
            raise _NoLongerLast
        guard(session)

    if store and previous.session.kind == Session.Kind.CHAIN:
        try:
            claim = begin(
                previous.session, question, agent=agent, request=request, key=key, guard=check_is_last
            )
        except (_NoLongerLast, TurnInProgress):
            pass
        else:
            _renew_expiry(previous.session)
            return claim
    branch = forked_chain(
        previous, expires_at=_chain_expiry() if store else timezone.now() + UNSTORED_CHAIN_LIFETIME
    )
    return begin(branch, question, agent=agent, request=request, key=key, guard=guard)


def forked_chain(turn: Turn, *, expires_at: datetime) -> Session:
    """Return a chain, not stored yet, that begins with a copy of the messages up to the end of this turn."""
    last_message = Message.objects.filter(turn=turn, erased_at=None).order_by("position").last()
    if last_message is None:
        raise NotFound(f"The messages of turn {turn.number} have been deleted. Continue from another turn.")
    if not last_message.active:
        raise BranchNotActive
    source_session = turn.session
    return Session(
        owner=source_session.owner,
        person=source_session.person,
        agent=agents.PASSTHROUGH,
        kind=Session.Kind.CHAIN,
        expires_at=expires_at,
        forked_from=source_session,
        fork_position=last_message.position,
    )


@database.retry_conflicts
@transaction.atomic
def delete_response(turn: Turn) -> None:
    """Make an ended response unavailable. A chain loses its messages, a conversation keeps them."""
    TurnRequest.objects.filter(turn=turn).update(is_stored=False, params={}, metadata={}, options={})
    if turn.session.kind == Session.Kind.CHAIN and history.messages_of(turn):
        history.delete_turn(turn.session_id, turn.number)


@quick_batch_job
def delete_expired_sessions() -> int:
    """Delete expired sessions: old chains, and deleted conversations that nobody restored in time."""
    expired_sessions = Session.objects.expired()
    session_ids = list(expired_sessions.order_by("expires_at").values_list("pk", flat=True)[:_BATCH_SIZE])
    # A session may be continued or restored meanwhile, or another sweep may reach it first.
    return sum(history.remove_if(expired_sessions, session_id) for session_id in session_ids)


def _renew_expiry(chain: Session) -> None:
    expiry = _chain_expiry()
    # It is renewed once a thirtieth of it has passed, by default a day, to save a write per turn.
    if chain.expires_at is None or expiry - chain.expires_at > timedelta(days=conf().chain_days) / 30:
        Session.objects.filter(pk=chain.pk).update(expires_at=expiry)


def _chain_expiry() -> datetime:
    return timezone.now() + timedelta(days=conf().chain_days)
