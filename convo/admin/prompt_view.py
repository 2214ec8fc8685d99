"""The prompt that the model saw in a turn: its manifest, drawn to scale, with the texts behind it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.urls import reverse

from convo import context
from convo.admin.read_only import describe_size
from convo.models import Manifest, ManifestOmission, ManifestPart, ManifestSource, Turn

# A prompt can be as long as a book, so each part shows at most this many sources and characters of each.
MAX_SOURCES, MAX_TEXT_LENGTH = 60, 4000
KINDS = {"pinned": "memories", "facts": "memories"}


@dataclass(frozen=True, kw_only=True)
class PromptSource:
    """One source of a part of the prompt: its label, a link to it, and its text."""

    label: str
    link: str
    text: str | None


class PromptSlice(NamedTuple):
    """A part of the prompt as a segment of the bar, its first sources, and the number of the others."""

    segment: context.BarSegment
    kind: str
    sources: Sequence[PromptSource]
    omitted_count: int


class Omission(NamedTuple):
    """Something that was left out of the prompt, its place in the transcript, and its first sources."""

    row: ManifestOmission
    message_range: str
    sources: Sequence[PromptSource]


class PromptView(NamedTuple):
    manifest: Manifest
    budget_percentage: str
    slices: Sequence[PromptSlice]
    omissions: Sequence[Omission]


def build_prompt_view(turn: Turn, *, can_read: bool) -> PromptView | None:
    """Return the prompt of this turn, with texts for staff who may read them; None if no model was asked."""
    if turn.manifest is None:
        return None
    # The texts are loaded from their rows, so that what was deleted or forgotten since is not shown.
    manifest = context.replay(turn)
    return PromptView(
        manifest=manifest,
        budget_percentage=f"{100 * manifest['total'] / (manifest['budget'] or 1):.1f}",
        slices=[
            PromptSlice(
                segment=segment,
                kind=KINDS.get(segment.part["part"], segment.part["part"]),
                sources=_sources(turn, segment.part, can_read=can_read),
                omitted_count=max(0, len(segment.part.get("sources", ())) - MAX_SOURCES),
            )
            for segment in context.bar_segments(manifest, manifest["total"] or 1)
        ],
        omissions=[
            Omission(row, " ".join(_message_range(row)), _sources(turn, row, can_read=can_read))
            for row in manifest["left_out"]
        ],
    )


def _sources(turn: Turn, part: ManifestPart | ManifestOmission, *, can_read: bool) -> list[PromptSource]:
    return [_source(turn, source, can_read=can_read) for source in part.get("sources", ())[:MAX_SOURCES]]


def _source(turn: Turn, source: ManifestSource, *, can_read: bool) -> PromptSource:
    label, link = _label_and_link(turn, source)
    text = source.get("text")
    return PromptSource(
        label=f"{label}, score {source['score']}" if "score" in source else label,
        link=link,
        text=(text[:MAX_TEXT_LENGTH] if can_read else describe_size(text)) if text else None,
    )


def _label_and_link(turn: Turn, source: ManifestSource) -> tuple[str, str]:
    if "agent" in source:
        version_id = turn.agent_version_id
        return f"agent {source['agent']}", _change_url("agentversion", version_id) if version_id else ""
    if "summary" in source:
        return f"summary {source['summary']}", _change_url("summary", source["summary"])
    if "memory" in source:
        return "a memory", f"{reverse('admin:convo_usermemory_changelist')}?q={source['memory']}"
    session, position = source.get("session", turn.session_id), source.get("position", 0)
    suffix = "" if str(session) == str(turn.session_id) else " of another conversation"
    role = source.get("role", "message")
    return f"{role} at {position}{suffix}", message_url(session, position)


def _message_range(omission: ManifestOmission) -> Iterator[str]:
    if "messages" in omission:
        yield f"{omission['messages']} messages"
    if "to" in omission:
        yield (
            f"at {omission['from']} to {omission['to']}" if "from" in omission else f"up to {omission['to']}"
        )


def message_url(session_id: object, position: int) -> str:
    """Return the address of a message in the transcript on its session's page."""
    return f"{_change_url('session', session_id)}?before={position + 1}#m{position}"


def _change_url(model: str, pk: object) -> str:
    return reverse(f"admin:convo_{model}_change", args=[str(pk)])
