"""What the next summary is made of: where the last one ended, and what has left the window since."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from convo.agents import Agent
from convo.models import Message, Session, Summary

# Rises when what makes a summary due is another thing than before: all sessions are weighed again.
VERSION = 1
# Rows are read in such lots; one exchange with more of them is read in a larger one.
LOT = 1000
# So many sessions are looked at in one question to the database.
AT_A_TIME = 100
_READABLE = ("message", "function_call", "function_call_output")
# What the application told the model is no part of what was said.
_UNSAID = ("system", "developer")


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Messages that have no summary yet, as whole exchanges, and the version of the transcript seen."""

    epoch: int
    previous: Summary | None
    first: int
    last: int
    blocks: Sequence[Sequence[Message]]

    def shorter(self, blocks: int) -> "Stretch":
        """Only the first so many exchanges of it."""
        if blocks >= len(self.blocks):
            return self
        return replace(self, blocks=self.blocks[:blocks], last=self.blocks[blocks][0].position - 1)


@dataclass(frozen=True)
class Place:
    """A session in which a summary is due: of what stands behind one position and before another."""

    session_id: UUID
    epoch: int
    covered: int
    edge: int


def summarises(agent: Agent) -> bool:
    """Are this agent's sessions summarised at all?"""
    return agent.summaries and bool(agent.summary_share)


def overdue(agent: Agent, among: QuerySet[Session]) -> Iterator[Place]:
    """Those of these sessions, all of this agent, that a summary is due in."""
    if not summarises(agent):
        return
    fresh = Summary.objects.filter(session=OuterRef("pk"), thread="", stale=False).order_by("-to_position")
    found = among.filter(
        # The counters of the row itself leave out most.
        Q(message_count__gte=agent.window_pairs + agent.summary_turns)
        | Q(message_count__gt=agent.window_pairs, token_count__gte=agent.summary_tokens),
        kind=Session.Kind.CONVERSATION,
        storage=Session.Storage.KEPT,
    ).annotate(
        covered=Coalesce(Subquery(fresh.values("to_position")[:1]), F("base_position")),
        edge=_edge(agent.window_pairs),
    )
    waiting = found.filter(edge__gt=F("covered") + 1)
    places = [Place(*row) for row in waiting.values_list("pk", "epoch", "covered", "edge")]
    for start in range(0, len(places), AT_A_TIME):
        some = places[start : start + AT_A_TIME]
        due = _due(agent, some)
        yield from (place for place in some if place.session_id in due)


def next_stretch(session: Session, agent: Agent) -> Stretch | None:
    """What the session's next summary is to be made of; None when none is due."""
    place = next(overdue(agent, Session.objects.filter(pk=session.pk)), None)
    blocks, end = _blocks(session, place.covered, place.edge) if place else ([], 0)
    if not place or not blocks:
        return None
    return Stretch(
        epoch=place.epoch,
        previous=Summary.objects.fresh(session).first(),
        first=place.covered + 1,
        last=end - 1,
        blocks=blocks,
    )


def _due(agent: Agent, places: Sequence[Place]) -> set[UUID]:
    """The sessions of those places that hold enough turns, or enough tokens."""
    within = [Q(session=one.session_id, position__gt=one.covered, position__lt=one.edge) for one in places]
    said = Message.objects.filter(reduce(or_, within), thread="", active=True, erased_at=None)
    counted = (
        _read(said)
        .values_list("session")
        .annotate(turns=Count("pk", filter=Q(role=Message.Role.USER)), tokens=Sum("tokens"))
    )
    return {
        session_id
        for session_id, turns, tokens in counted
        if turns >= agent.summary_turns or tokens >= agent.summary_tokens
    }


def _read(rows: QuerySet[Message]) -> QuerySet[Message]:
    """Those of these messages that a summary tells: what nobody said, or a person had forgotten, is not."""
    return rows.filter(recallable=True, type__in=_READABLE).exclude(role__in=_UNSAID)


def _edge(pairs: int) -> Any:
    """Where the last so many exchanges of the outer session begin: what stands before needs a summary."""
    if not pairs:
        return F("last_position") + 1
    questions = Message.objects.filter(
        session=OuterRef("pk"), thread="", active=True, erased_at=None, role=Message.Role.USER
    )
    return Subquery(questions.order_by("-position").values("position")[pairs - 1 : pairs])


def _blocks(session: Session, covered: int, edge: int) -> tuple[list[list[Message]], int]:
    """The whole exchanges between these positions, and the position that they end before."""
    rows = _read(Message.objects.transcript(session).filter(position__gt=covered, position__lt=edge))
    lot = LOT
    while True:
        found = list(rows[:lot])
        *blocks, last = _exchanges(found, _answered(session, found)) or [[]]
        more = len(found) == lot
        if not more and not _waits(last, _answered(session, found)):
            return [*blocks, last] if last else blocks, edge
        if blocks or not more:
            return blocks, last[0].position
        lot *= 2


def _answered(session: Session, rows: Sequence[Message]) -> set[str]:
    """Those of these tool calls that have a result somewhere in the transcript."""
    calls = {row.call_id for row in rows if row.type == "function_call"}
    if not calls:
        return set()
    results = Message.objects.transcript(session).filter(type="function_call_output")
    return calls & {row.call_id for row in results.filter(position__gt=rows[0].position)}


def _exchanges(rows: Sequence[Message], answered: set[str]) -> list[list[Message]]:
    """The messages by question; none begins between a tool call and its result."""
    found: list[list[Message]] = []
    for row in rows:
        if not found or (row.role == Message.Role.USER and not _waits(found[-1], answered)):
            found.append([])
        found[-1].append(row)
    return found


def _waits(block: Sequence[Message], answered: set[str]) -> bool:
    """Does a tool call in here have its result only later?"""
    results = {row.call_id for row in block if row.type == "function_call_output"}
    return any(row.type == "function_call" and row.call_id in answered - results for row in block)
