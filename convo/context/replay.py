"""What the model saw in an old turn: its stored account, with the words that are still there."""

from collections.abc import Mapping, Sequence
from typing import Any

from convo import history
from convo.errors import NotFound
from convo.models import Evidence, Message, Summary, Turn, UserMemory


def replay(turn: Turn) -> dict[str, Any]:
    """The account of a turn, each source with its words; what was deleted or forgotten since has none."""
    manifest = turn.manifest
    if manifest is None:
        raise NotFound(f"Turn {turn.number} asked no model, so there is nothing that one saw.")
    parts = [{**part, "sources": _sources(turn, part)} for part in manifest["parts"]]
    return {**manifest, "parts": parts}


def _sources(turn: Turn, part: Mapping[str, Any]) -> list[dict[str, Any]]:
    sources: Sequence[Mapping[str, Any]] = part.get("sources", ())
    if part["part"] == "instructions":
        version = turn.agent_version
        return [{"agent": turn.agent, "text": version.config.get("instructions", "") if version else None}]
    if part["part"] in {"verbatim", "question"}:
        return _stretch(turn, part)
    if part["part"] == "recalled":
        return _messages(turn, sources)
    if part["part"] == "summary":
        texts = dict(Summary.objects.filter(pk__in=_ids(sources, "summary")).values_list("pk", "text"))
        return [{**source, "text": texts.get(source["summary"])} for source in sources]
    return _memories(turn, sources)


def _ids(sources: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [source[name] for source in sources]


def _stretch(turn: Turn, part: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "from" not in part:
        return []
    rows = Message.objects.filter(
        session=turn.session_id, position__range=(part["from"], part["to"]), erased_at=None
    )
    # What the turn saw was active then; of alternatives, those of its own path are not told apart any more.
    shown = rows.filter(active=True) if part["part"] == "verbatim" else rows
    told = history.fill(shown.order_by("position"), lost_too=True)
    return [{"position": row.position, **_text(row)} for row in told]


def _messages(turn: Turn, sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    places = {(source["session"], source["position"]) for source in sources}
    rows = Message.objects.filter(
        session__person=turn.session.person_id,
        session__in={session for session, _ in places},
        session__state_before__isnull=True,
        position__in={position for _, position in places},
        recallable=True,
        erased_at=None,
    )
    found = {(str(row.session_id), row.position): row for row in rows}
    return [{**source, **_text(found.get((source["session"], source["position"])))} for source in sources]


def _memories(turn: Turn, sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    known = UserMemory.objects.filter(person=turn.session.person_id, key__in=_ids(sources, "memory"))
    rows = {str(row.key): row for row in known}
    places = {
        row.message_id: {"session": str(row.message.session_id), "position": row.message.position}
        for row in Evidence.objects.filter(memory__in=rows.values()).select_related("message")
    }
    told = []
    for source in sources:
        row = rows.get(source["memory"])
        evidence = [places[id] for id in source["evidence"] if id in places]
        told.append({**source, "evidence": evidence, "text": row.text or None if row else None})
    return told


def _text(row: Message | None) -> dict[str, Any]:
    return {"role": row.role, "text": row.content or None} if row else {"text": None}
