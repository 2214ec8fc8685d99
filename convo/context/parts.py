"""What a prompt is made of: what was gathered for it, what was taken, and the account of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from convo.history import Line


@dataclass(frozen=True, kw_only=True)
class Told:
    """A summary: what the transcript said up to a position, in few words."""

    id: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that is known about the user, and the messages that it rests on."""

    key: str
    text: str
    since: datetime
    evidence: Sequence[int] = ()
    score: float | None = None

    @property
    def source(self) -> dict[str, Any]:
        score = {} if self.score is None else {"score": round(self.score, 3)}
        return {"memory": self.key, "evidence": list(self.evidence), **score}


@dataclass(frozen=True, kw_only=True)
class Old:
    """An older message, from this conversation or from another one of the same person."""

    session: str
    position: int
    speaker: str
    text: str
    at: datetime

    @property
    def place(self) -> tuple[str, int]:
        return self.session, self.position

    @property
    def source(self) -> dict[str, Any]:
        return {"session": self.session, "position": self.position}


@dataclass(frozen=True, kw_only=True)
class Found:
    """An older message that fits the question, with those around it."""

    old: Old
    score: float
    beside: Sequence[Old] = ()


@dataclass(frozen=True, kw_only=True)
class Material:
    """What there is for a prompt beside the transcript's end: the choice is made from this."""

    pinned: Sequence[Fact] = ()
    summary: Told | None = None
    facts: Sequence[Fact] = ()
    found: Sequence[Found] = ()  # best first
    session: str = ""
    refused: Sequence[int] = ()  # turns whose images the model server did not take


@dataclass(frozen=True, kw_only=True)
class Part:
    """One stretch of the prompt: what it holds, what it costs, and why it is there."""

    part: str
    why: str
    tokens: int
    text: str = ""
    lines: Sequence[Line] = ()
    sources: Sequence[Mapping[str, Any]] = ()
    messages: int = 0
    covers: tuple[int, int] | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        """The account of this part: ids, places and numbers, never text."""
        covers = (self.lines[0].position, self.lines[-1].position) if self.lines else self.covers
        places = {"from": covers[0], "to": covers[1]} if covers else {}
        sources = {"sources": list(self.sources)} if self.sources else {}
        return {
            "part": self.part,
            "why": self.why,
            "tokens": self.tokens,
            "messages": self.messages or len(self.lines),
            **places,
            **sources,
        }


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What is sent to the model, and the account of it."""

    messages: Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    cut: bool = False  # was something left out for want of room?
