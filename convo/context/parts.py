"""The values of which prompts are made: their sources, their parts, and the manifest of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from convo.history import TranscriptMessage
from convo.llm.types import ChatMessage
from convo.models import Manifest, ManifestPart, ManifestSource


@dataclass(frozen=True, kw_only=True)
class SummaryText:
    """A summary of the transcript up to a position."""

    id: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class PromptFact:
    """A fact about the user, and the messages that it was learned from."""

    key: str
    text: str
    since: datetime
    evidence: Sequence[int] = ()
    score: float | None = None

    @property
    def source(self) -> ManifestSource:
        source: ManifestSource = {"memory": self.key, "evidence": list(self.evidence)}
        return source if self.score is None else {**source, "score": round(self.score, 3)}


@dataclass(frozen=True, kw_only=True)
class PastMessage:
    """An older message, from this conversation or from another one of the same person."""

    session: str
    position: int
    speaker: str
    text: str
    created_at: datetime

    @property
    def location(self) -> tuple[str, int]:
        return self.session, self.position

    @property
    def source(self) -> ManifestSource:
        return {"session": self.session, "position": self.position}


@dataclass(frozen=True, kw_only=True)
class RecalledMessage:
    """An older message that matches the question, with its neighbours."""

    message: PastMessage
    score: float
    neighbours: Sequence[PastMessage] = ()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The sources of a prompt beyond the transcript's end, of which a choice is made."""

    pinned_facts: Sequence[PromptFact] = ()
    summary: SummaryText | None = None
    facts: Sequence[PromptFact] = ()
    matches: Sequence[RecalledMessage] = ()  # best first
    session_id: str = ""
    refused_turns: Sequence[int] = ()  # turns whose images the model server refused


@dataclass(frozen=True, kw_only=True)
class PromptPart:
    """One part of the prompt: its content, its tokens, and why it is there."""

    name: str
    reason: str
    tokens: int
    text: str = ""
    messages: Sequence[TranscriptMessage] = ()
    sources: Sequence[ManifestSource] = ()
    message_count: int = 0
    covers: tuple[int, int] | None = None

    @property
    def manifest(self) -> ManifestPart:
        """The manifest's entry for this part: ids, positions and numbers, never text."""
        entry: ManifestPart = {
            "part": self.name,
            "why": self.reason,
            "tokens": self.tokens,
            "messages": self.message_count or len(self.messages),
        }
        covers = (self.messages[0].position, self.messages[-1].position) if self.messages else self.covers
        if covers:
            entry["from"], entry["to"] = covers
        if self.sources:
            entry["sources"] = list(self.sources)
        return entry


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The messages for the model, and the manifest of them."""

    messages: Sequence[ChatMessage]
    manifest: Manifest
    parts: Sequence[PromptPart] = ()
    is_truncated: bool = False  # True if something was left out for lack of room
