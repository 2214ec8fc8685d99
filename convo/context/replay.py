"""Show the prompt of an old turn: its stored manifest, with the texts that still exist."""

from collections.abc import Sequence

from convo.errors import NotFound
from convo.history import ephemeral
from convo.models import Evidence, Manifest, ManifestPart, ManifestSource, Message, Summary, Turn, UserMemory


def replay(turn: Turn) -> Manifest:
    """Return the manifest of a turn, each source with its text: None if it was deleted or forgotten since."""
    manifest = turn.manifest
    if manifest is None:
        raise NotFound(f"Turn {turn.number} did not ask a model, so it has no prompt to show.")
    parts: list[ManifestPart] = [{**part, "sources": _sources(turn, part)} for part in manifest["parts"]]
    return {**manifest, "parts": parts}


def _sources(turn: Turn, part: ManifestPart) -> list[ManifestSource]:
    sources = part.get("sources", ())
    if part["part"] == "instructions":
        version = turn.agent_version
        return [{"agent": turn.agent, "text": version.config.get("instructions", "") if version else None}]
    if part["part"] in {"verbatim", "question"}:
        return _range_sources(turn, part)
    if part["part"] == "recalled":
        return _recalled_sources(turn, sources)
    if part["part"] == "summary":
        texts = dict(
            Summary.objects.filter(pk__in=[source["summary"] for source in sources]).values_list("pk", "text")
        )
        return [{**source, "text": texts.get(source["summary"])} for source in sources]
    return _memory_sources(turn, sources)


def _range_sources(turn: Turn, part: ManifestPart) -> list[ManifestSource]:
    if "from" not in part:
        return []
    all_rows = Message.objects.filter(
        session=turn.session_id, position__range=(part["from"], part["to"]), erased_at=None
    )
    # The turn saw messages that were active then. Of alternatives on its own path, today's active ones are
    # shown: it is not known any more which ones the turn saw.
    visible_rows = all_rows.filter(active=True) if part["part"] == "verbatim" else all_rows
    messages = ephemeral.load_contents(visible_rows.order_by("position"), allow_missing=True)
    return [{"position": message.position, **_text(message)} for message in messages]


def _recalled_sources(turn: Turn, sources: Sequence[ManifestSource]) -> list[ManifestSource]:
    positions = {(source["session"], source["position"]) for source in sources}
    rows = Message.objects.filter(
        session__person=turn.session.person_id,
        session__in={session for session, _ in positions},
        session__state_before__isnull=True,
        position__in={position for _, position in positions},
        recallable=True,
        erased_at=None,
    )
    rows_by_position = {(str(row.session_id), row.position): row for row in rows}
    return [
        {**source, **_text(rows_by_position.get((source["session"], source["position"])))}
        for source in sources
    ]


def _memory_sources(turn: Turn, sources: Sequence[ManifestSource]) -> list[ManifestSource]:
    keys = [source["memory"] for source in sources]
    memories = UserMemory.objects.filter(person=turn.session.person_id, key__in=keys)
    memories_by_key = {str(memory.key): memory for memory in memories}
    positions: dict[object, ManifestSource] = {
        row.message_id: {"session": str(row.message.session_id), "position": row.message.position}
        for row in Evidence.objects.filter(memory__in=memories_by_key.values()).select_related("message")
    }
    entries: list[ManifestSource] = []
    for source in sources:
        memory = memories_by_key.get(source["memory"])
        evidence = [positions[message_id] for message_id in source["evidence"] if message_id in positions]
        entries.append({**source, "evidence": evidence, "text": memory.text or None if memory else None})
    return entries


def _text(row: Message | None) -> ManifestSource:
    return {"role": row.role, "text": row.content or None} if row else {"text": None}
