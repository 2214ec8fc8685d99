"""Select the messages of the next summary: those after the last summary and before the recent exchanges."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from uuid import UUID

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from convo.agents import Agent
from convo.database import in_batches
from convo.history.tool_pairs import CALL, RESULT, pair
from convo.models import Message, Session, Summary

# Raise this when the conditions of a due summary change, so that all sessions are checked again.
RULES_VERSION = 1
# Rows are read in batches of this size; an exchange with more of them is read in a larger batch.
ROWS_PER_QUERY = 1000
# One query to the database looks at this many sessions.
SESSIONS_PER_QUERY = 100
_READABLE = ("message", CALL, RESULT)
# Instructions of the application are not part of the conversation.
_INSTRUCTION_ROLES = ("system", "developer")


@dataclass(frozen=True, kw_only=True)
class DueRange:
    """Whole exchanges that have no summary yet, and the epoch of the transcript that they were read from."""

    epoch: int
    previous: Summary | None
    from_position: int
    to_position: int
    exchanges: Sequence[Sequence[Message]]

    def first_exchanges(self, blocks: int) -> "DueRange":
        if blocks >= len(self.exchanges):
            return self
        return replace(
            self, exchanges=self.exchanges[:blocks], to_position=self.exchanges[blocks][0].position - 1
        )


@dataclass(frozen=True)
class DueSession:
    """A session with a summary due, for the messages after `summarised_to` and before `window_start`."""

    session_id: UUID
    epoch: int
    summarised_to: int
    window_start: int


def has_summaries(agent: Agent) -> bool:
    return agent.summaries and bool(agent.summary_share)


def due_sessions(agent: Agent, sessions: QuerySet[Session]) -> Iterator[DueSession]:
    """Yield those of these sessions, all of this agent, that a summary is due in."""
    if not has_summaries(agent):
        return
    fresh_summaries = Summary.objects.filter(session=OuterRef("pk"), thread="", stale=False).order_by(
        "-to_position"
    )
    candidates = sessions.filter(
        # The counters in the session's own row rule out most sessions.
        Q(message_count__gte=agent.window_pairs + agent.summary_turns)
        | Q(message_count__gt=agent.window_pairs, token_count__gte=agent.summary_tokens),
        kind=Session.Kind.CONVERSATION,
        storage=Session.Storage.PERSISTENT,
    ).annotate(
        summarised_to=Coalesce(Subquery(fresh_summaries.values("to_position")[:1]), F("base_position")),
        window_start=_window_start(agent.window_pairs),
    )
    waiting = candidates.filter(window_start__gt=F("summarised_to") + 1)
    places = [DueSession(*row) for row in waiting.values_list("pk", "epoch", "summarised_to", "window_start")]
    for batch in in_batches(places, SESSIONS_PER_QUERY):
        due_keys = _sessions_due(agent, batch)
        yield from (place for place in batch if place.session_id in due_keys)


def next_due_range(session: Session, agent: Agent) -> DueRange | None:
    """Return the messages for the session's next summary; None when none is due."""
    place = next(due_sessions(agent, Session.objects.filter(pk=session.pk)), None)
    blocks, end = _exchanges_between(session, place.summarised_to, place.window_start) if place else ([], 0)
    if not place or not blocks:
        return None
    return DueRange(
        epoch=place.epoch,
        previous=Summary.objects.fresh(session).first(),
        from_position=place.summarised_to + 1,
        to_position=end - 1,
        exchanges=blocks,
    )


def _sessions_due(agent: Agent, places: Sequence[DueSession]) -> set[UUID]:
    conditions = [
        Q(session=place.session_id, position__gt=place.summarised_to, position__lt=place.window_start)
        for place in places
    ]
    messages = Message.objects.filter(reduce(or_, conditions), thread="", active=True, erased_at=None)
    question_count = Count("pk", filter=Q(role=Message.Role.USER))
    by_session = _summarisable(messages).values_list("session")
    totals = by_session.annotate(turns=question_count, tokens=Sum("tokens"))
    return {
        session_id
        for session_id, turns, tokens in totals
        if turns >= agent.summary_turns or tokens >= agent.summary_tokens
    }


def _summarisable(rows: QuerySet[Message]) -> QuerySet[Message]:
    """Exclude messages that no summary may tell: instructions, and what a person had forgotten."""
    return rows.filter(recallable=True, type__in=_READABLE).exclude(role__in=_INSTRUCTION_ROLES)


def _window_start(pairs: int) -> Combinable:
    """Return the position at which the last exchanges of the outer session begin, as an expression."""
    if not pairs:
        return F("last_position") + 1
    questions = Message.objects.filter(
        session=OuterRef("pk"), thread="", active=True, erased_at=None, role=Message.Role.USER
    )
    return Subquery(questions.order_by("-position").values("position")[pairs - 1 : pairs])


def _exchanges_between(session: Session, start: int, end: int) -> tuple[list[list[Message]], int]:
    """Return the whole exchanges between these positions, and the position that they end before."""
    rows = _summarisable(Message.objects.transcript(session).filter(position__gt=start, position__lt=end))
    batch_size = ROWS_PER_QUERY
    while True:
        batch = list(rows[:batch_size])
        results = _result_positions(session, batch)
        *blocks, last = _group_by_question(batch, results) or [[]]
        has_more = len(batch) == batch_size
        if not has_more and not _awaits_result(last, results):
            return [*blocks, last] if last else blocks, end
        if blocks or not has_more:
            return blocks, last[0].position
        batch_size *= 2


def _result_positions(session: Session, rows: Sequence[Message]) -> dict[int, int]:
    if not any(row.type == CALL for row in rows):
        return {}
    tools = Message.objects.transcript(session).filter(
        type__in=(CALL, RESULT), position__gte=rows[0].position
    )
    return pair((row.position, row) for row in tools.only("position", "type", "item")).results


def _group_by_question(rows: Sequence[Message], results: Mapping[int, int]) -> list[list[Message]]:
    """Group the messages by question, never between a tool call and its result."""
    exchanges: list[list[Message]] = []
    for row in rows:
        if not exchanges or (row.role == Message.Role.USER and not _awaits_result(exchanges[-1], results)):
            exchanges.append([])
        exchanges[-1].append(row)
    return exchanges


def _awaits_result(exchange: Sequence[Message], results: Mapping[int, int]) -> bool:
    return any(results.get(row.position, 0) > exchange[-1].position for row in exchange)
