"""Gather the sources of a prompt beyond the transcript's end: facts, summary, recalled messages."""

from collections.abc import Sequence

from convo import search
from convo.agents import Agent
from convo.context.parts import PastMessage, PromptFact, RecalledMessage, Sources, SummaryText
from convo.history import TranscriptMessage
from convo.history.files import parts_of
from convo.history.statements import FactRow, read_prompt_sources
from convo.models import NOBODY, Session, Turn

# The facts considered for one question are more than any share of a prompt holds.
MAX_FACTS = 200
# More messages are searched for than are needed: the prompt holds some of them word for word already.
MAX_MATCHES = 30
# A longer question is searched for by its beginning.
QUERY_CHARACTERS = 1000
# The HTTP statuses of model servers that can't accept a request as it is.
REFUSAL_STATUSES = (400, 413, 415, 422)


def gather(session: Session, agent: Agent, query: str, *, upto: int) -> Sources:
    """Return what this agent may add to the transcript's end, for a question that follows position `upto`."""
    is_kept = session.storage == Session.Storage.PERSISTENT
    if session.kind == Session.Kind.CONVERSATION and not is_kept:
        # A temporary chat is isolated: nothing comes in from elsewhere, as nothing leaves it.
        return Sources(session_id=str(session.pk))
    uses_memory = agent.memory and session.person.ref != NOBODY
    # Before its first message, a transcript has neither a summary nor messages to recall.
    has_messages = upto > session.base_position
    summary, fact_rows = read_prompt_sources(
        session,
        upto=upto if agent.summaries and has_messages else None,
        max_facts=MAX_FACTS if uses_memory else 0,
        with_index=bool(query),
    )
    facts = _facts(fact_rows, query)
    has_query = bool(query.strip())
    # Messages that are not kept can't be recalled.
    can_recall = has_query and agent.recall and (uses_memory or (is_kept and has_messages))
    return Sources(
        session_id=str(session.pk),
        pinned_facts=[fact for fact, is_pinned in facts if is_pinned],
        facts=[fact for fact, is_pinned in facts if not is_pinned] if has_query else [],
        summary=summary
        and SummaryText(
            id=summary.id, start=session.base_position + 1, end=summary.to_position, text=summary.text
        ),
        matches=_recall(session, query, everywhere=uses_memory, upto=upto) if can_recall else [],
    )


def refused_image_turns(messages: Sequence[TranscriptMessage]) -> list[int]:
    """Return the turns that showed an image among these messages, and whose request the model server refused.

    The server would refuse such an image in every later prompt too.
    """
    image_turns = {
        message.turn
        for message in messages
        if any(part.get("type") == "input_image" for part in parts_of(message.item))
    }
    if not image_turns:
        return []
    refused_turns = Turn.objects.filter(pk__in=image_turns, error__upstream_status__in=REFUSAL_STATUSES)
    return list(refused_turns.values_list("pk", flat=True))


def _facts(rows: Sequence[FactRow], query: str) -> list[tuple[PromptFact, bool]]:
    """Return these facts, each with whether it is pinned: the best match first, then the newest."""
    index_entries = [row.index_entry for row in rows if row.index_entry]
    scores = (
        dict(search.rank_memories(index_entries, query[:QUERY_CHARACTERS], len(rows)))
        if index_entries
        else {}
    )

    def order(row: FactRow) -> tuple[float, float, int]:
        memory = row.memory
        return -scores.get(memory.pk, 0.0), -memory.valid_from.timestamp(), memory.pk

    return [(_fact(row, scores.get(row.memory.pk)), row.memory.pinned) for row in sorted(rows, key=order)]


def _fact(row: FactRow, score: float | None) -> PromptFact:
    return PromptFact(
        key=str(row.memory.key),
        text=row.memory.text,
        since=row.memory.valid_from,
        evidence=sorted(row.message_ids),
        score=score,
    )


def _recall(session: Session, query: str, *, everywhere: bool, upto: int) -> list[RecalledMessage]:
    """Return older messages that match the question, of this session or of all the person's sessions."""
    matches = search.find(
        session.person,
        session.owner,
        query[:QUERY_CHARACTERS],
        session=None if everywhere else session,
        limit=MAX_MATCHES,
    )
    return [
        _recalled_message(match, session, upto)
        for match in matches
        if match.session_id != session.pk or match.position <= upto
    ]


def _recalled_message(match: search.Hit, session: Session, upto: int) -> RecalledMessage:
    """Return a search hit with its neighbours; in the question's own session, only those up to `upto`."""
    neighbours = [
        PastMessage(
            session=str(match.session_id),
            position=neighbour.position,
            speaker=neighbour.name or neighbour.role,
            text=neighbour.content,
            created_at=match.created_at,
        )
        for neighbour in [*match.before[::-1], *match.after]
        if neighbour.content and (match.session_id != session.pk or neighbour.position <= upto)
    ]
    message = PastMessage(
        session=str(match.session_id),
        position=match.position,
        speaker=match.name or match.role,
        text=match.content,
        created_at=match.created_at,
    )
    return RecalledMessage(
        message=message,
        score=match.score,
        neighbours=sorted(neighbours, key=lambda neighbour: abs(neighbour.position - match.position)),
    )
