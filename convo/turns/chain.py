"""Chains: turns that stand by themselves, and those that go on from one of them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from convo import agents, database, history
from convo.conf import conf
from convo.errors import BranchNotActive, NotFound, TurnInProgress
from convo.history import Draft
from convo.jobs import swept_anywhere
from convo.models import Asked, Message, Session, Turn
from convo.turns.claim import Claim, begin
from convo.turns.once import Key
from convo.turns.sessions import new_session
from convo.turns.start import Check, anything

_MOST_AT_ONCE = 100
SOON = timedelta(hours=1)


class _MovedOn(Exception):
    """Not an error: something was said after the turn that one wants to go on from."""


def new_chain(owner: Any, person: str, *, storage: str = Session.Storage.KEPT) -> Session:
    """A chain that is not stored yet; with storage `none` nothing of what is said in it ever is."""
    fields = {"kind": Session.Kind.CHAIN, "storage": storage, "expires_at": _end()}
    return new_session(owner, person, agent=agents.PASSTHROUGH, **fields)


def go_on(
    previous: Turn,
    question: Sequence[Draft],
    *,
    asked: Asked,
    agent: str = "",
    key: Key | None = None,
    check: Check = anything,
    stored: bool = True,
) -> Claim:
    """Ask after this turn: in its chain where it is the last, else in a copy of the path to it.

    So any number of callers may go on from the same turn, and none waits for another. What is not to be
    stored goes into a copy that is deleted soon.
    """

    def still_last(session: Session) -> None:
        if session.last_turn != previous.number:
            raise _MovedOn
        check(session)

    if stored and previous.session.kind == Session.Kind.CHAIN:
        try:
            claim = begin(previous.session, question, agent=agent, asked=asked, key=key, check=still_last)
        except (_MovedOn, TurnInProgress):
            pass
        else:
            Session.objects.filter(pk=previous.session_id).update(expires_at=_end())
            return claim
    branch = branch_of(previous, expires_at=_end() if stored else timezone.now() + SOON)
    return begin(branch, question, agent=agent, asked=asked, key=key, check=check)


def branch_of(turn: Turn, *, expires_at: datetime) -> Session:
    """A chain that begins with all that was said up to this turn; not stored yet."""
    last = Message.objects.filter(turn=turn, erased_at=None).order_by("position").last()
    if last is None:
        raise NotFound(f"What was said in turn {turn.number} has been deleted.")
    if not last.active:
        raise BranchNotActive
    source = turn.session
    return Session(
        owner=source.owner,
        person=source.person,
        agent=agents.PASSTHROUGH,
        kind=Session.Kind.CHAIN,
        expires_at=expires_at,
        forked_from=source,
        forked_at=last.position,
    )


@database.retried
@transaction.atomic
def take_back(turn: Turn) -> None:
    """Let nobody find this ended response again. In a conversation what was said stays; a chain loses it."""
    Asked.objects.filter(turn=turn).update(retrievable=False, params={}, metadata={}, wishes={})
    if turn.session.kind == Session.Kind.CHAIN and history.messages_of(turn):
        history.delete_turn(turn.session_id, turn.number)


@swept_anywhere
def expire() -> int:
    """Delete the sessions whose time is over: chains, and conversations that nobody brought back in time."""
    over = Session.objects.over()
    ids = list(over.order_by("expires_at").values_list("pk", flat=True)[:_MOST_AT_ONCE])
    # Meanwhile one may be gone on with, or brought back, or another sweep comes to it.
    return sum(history.remove_if(over, id) for id in ids)


def _end() -> datetime:
    return timezone.now() + timedelta(days=conf().chain_days)
