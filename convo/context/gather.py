"""Gather what there is for a prompt beside the transcript's end: read, looked up, not yet chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

from convo import search
from convo.agents import Agent
from convo.context.parts import Fact, Found, Material, Old, Told
from convo.history import Line, parts_of
from convo.models import NOBODY, Session, Summary, Turn, UserMemory

# Facts that are looked at for one question; more than any share of a prompt holds.
FACTS = 200
# Of what is found, some stands in the prompt already, word for word.
FOUND = 30
# A longer question is looked up by its beginning.
QUERY_CHARACTERS = 1000
# What a model server answers that can't take a request as it is.
NOT_TAKEN = (400, 413, 415, 422)


def gather(session: Session, agent: Agent, query: str, *, upto: int) -> Material:
    """What this agent may be told beside the transcript, for a question that begins behind `upto`."""
    is_kept = session.storage == Session.Storage.KEPT
    if session.kind == Session.Kind.CONVERSATION and not is_kept:
        # A temporary chat is by itself: nothing comes in from elsewhere, as nothing leaves it.
        return Material(session=str(session.pk))
    known = agent.memory and session.person.ref != NOBODY
    facts = _facts(session, query) if known else []
    summary = _summary(session, upto) if agent.summaries else None
    asked = bool(query.strip())
    # Of what is not kept nothing can be found again.
    recalls = asked and agent.recall and (known or is_kept)
    return Material(
        session=str(session.pk),
        pinned=[fact for fact, pinned in facts if pinned],
        facts=[fact for fact, pinned in facts if not pinned] if asked else [],
        summary=summary,
        found=_found(session, query, everywhere=known, upto=upto) if recalls else [],
    )


def refused(lines: Sequence[Line]) -> list[int]:
    """The turns of these lines that showed an image to a model server which then refused the request.

    What it refused once it would refuse in every later prompt.
    """
    showing = {line.turn for line in lines if any(map(_is_image, parts_of(line.item)))}
    if not showing:
        return []
    failed = Turn.objects.filter(pk__in=showing, error__upstream_status__in=NOT_TAKEN)
    return list(failed.values_list("pk", flat=True))


def _is_image(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "input_image"


def _summary(session: Session, upto: int) -> Told | None:
    """The latest summary that tells of nothing behind this position."""
    found = Summary.objects.fresh(session).filter(to_position__lte=upto).first()
    if found is None:
        return None
    return Told(id=found.pk, start=session.base_position + 1, end=found.to_position, text=found.text)


def _facts(session: Session, query: str) -> list[tuple[Fact, bool]]:
    """What is known about the person, that first which fits the question, then the newest."""
    rows = list(UserMemory.objects.known(session.person).prefetch_related("evidence")[:FACTS])
    if not rows:
        return []
    scores = (
        dict(search.find_memories(session.person, query[:QUERY_CHARACTERS], limit=FACTS)) if query else {}
    )
    rows.sort(key=lambda row: (-scores.get(row.pk, 0.0), -row.valid_from.timestamp()))
    return [(_fact(row, scores.get(row.pk)), row.pinned) for row in rows]


def _fact(row: UserMemory, score: float | None) -> Fact:
    return Fact(
        key=str(row.key),
        text=row.text,
        since=row.valid_from,
        evidence=[evidence.message_id for evidence in row.evidence.all()],
        score=score,
    )


def _found(session: Session, query: str, *, everywhere: bool, upto: int) -> list[Found]:
    """Older messages that fit the question: of this session, or of all of the person's."""
    hits = search.find(
        session.person,
        session.owner,
        query[:QUERY_CHARACTERS],
        session=None if everywhere else session,
        limit=FOUND,
    )
    return [_hit(hit, session, upto) for hit in hits if hit.session_id != session.pk or hit.position <= upto]


def _hit(hit: search.Hit, session: Session, upto: int) -> Found:
    """What was found, with the messages on both sides that the question's own branch has too."""
    beside = [
        Old(
            session=str(hit.session_id),
            position=line.position,
            speaker=line.name or line.role,
            text=line.content,
            at=hit.created_at,
        )
        for line in [*hit.before[::-1], *hit.after]
        if line.content and (hit.session_id != session.pk or line.position <= upto)
    ]
    old = Old(
        session=str(hit.session_id),
        position=hit.position,
        speaker=hit.name or hit.role,
        text=hit.content,
        at=hit.created_at,
    )
    return Found(
        old=old, score=hit.score, beside=sorted(beside, key=lambda line: abs(line.position - hit.position))
    )
