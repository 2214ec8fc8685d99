"""Gather the sources of a prompt beyond the transcript's end: facts, summary, recalled messages."""

from collections.abc import Mapping, Sequence

from convo import search
from convo.agents import Agent
from convo.context.parts import PastMessage, PromptFact, RecalledMessage, Sources, SummaryText
from convo.history import TranscriptMessage
from convo.history.files import parts_of
from convo.models import NOBODY, Session, Summary, Turn, UserMemory

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
    facts = _facts(session, query) if uses_memory else []
    summary = _summary(session, upto) if agent.summaries else None
    has_query = bool(query.strip())
    # Messages that are not kept can't be recalled.
    can_recall = has_query and agent.recall and (uses_memory or is_kept)
    return Sources(
        session_id=str(session.pk),
        pinned_facts=[fact for fact, is_pinned in facts if is_pinned],
        facts=[fact for fact, is_pinned in facts if not is_pinned] if has_query else [],
        summary=summary,
        matches=_recall(session, query, everywhere=uses_memory, upto=upto) if can_recall else [],
    )


def refused_image_turns(messages: Sequence[TranscriptMessage]) -> list[int]:
    """Return the turns that showed an image among these messages, and whose request the model server refused.

    The server would refuse such an image in every later prompt too.
    """
    image_turns = {message.turn for message in messages if any(map(_is_image, parts_of(message.item)))}
    if not image_turns:
        return []
    refused_turns = Turn.objects.filter(pk__in=image_turns, error__upstream_status__in=REFUSAL_STATUSES)
    return list(refused_turns.values_list("pk", flat=True))


def _is_image(part: Mapping[str, object]) -> bool:
    return part.get("type") == "input_image"


def _summary(session: Session, upto: int) -> SummaryText | None:
    """Return the latest summary that covers nothing after this position."""
    summary = Summary.objects.fresh(session).filter(to_position__lte=upto).first()
    if summary is None:
        return None
    return SummaryText(
        id=summary.pk, start=session.base_position + 1, end=summary.to_position, text=summary.text
    )


def _facts(session: Session, query: str) -> list[tuple[PromptFact, bool]]:
    """Return the person's facts, each with whether it is pinned: the best match first, then the newest."""
    rows = list(UserMemory.objects.for_prompt(session.person).prefetch_related("evidence")[:MAX_FACTS])
    if not rows:
        return []
    scores = (
        dict(search.find_memories(session.person, query[:QUERY_CHARACTERS], limit=MAX_FACTS)) if query else {}
    )
    rows.sort(key=lambda row: (-scores.get(row.pk, 0.0), -row.valid_from.timestamp()))
    return [(_fact(row, scores.get(row.pk)), row.pinned) for row in rows]


def _fact(row: UserMemory, score: float | None) -> PromptFact:
    return PromptFact(
        key=str(row.key),
        text=row.text,
        since=row.valid_from,
        evidence=[evidence.message_id for evidence in row.evidence.all()],
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
