"""What is asked of a model, and the pieces that its reply comes in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question to a model; `messages` have the shape of OpenAI's chat completions."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    temperature: float | None = None
    max_output_tokens: int | None = None
    # Further fields of the request, as chat completions have them: tools, tool_choice, response_format …
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Text:
    """The next words of the reply; never empty, never with a character that a database refuses."""

    text: str
    kind: str = "message"  # or "refusal", or "reasoning"


@dataclass(frozen=True, slots=True)
class CallPart:
    """A part of a tool call: its first part bears id and name, later ones only more of the arguments."""

    index: int
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What the reply cost, as its model counts; at most one, and just before the Finish."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a reply that did not break off; always the last piece."""

    reason: str


Piece = Text | CallPart | Usage | Finish


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A whole reply."""

    text: str
    usage: Usage | None
    finish_reason: str
