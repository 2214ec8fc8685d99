"""A request to a model, and the events in which its reply arrives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# A message in the form of OpenAI's chat completions; one that a caller wrote may have any fields.
ChatMessage = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """A request to a model."""

    model: str
    messages: Sequence[ChatMessage]
    temperature: float | None = None
    max_output_tokens: int | None = None
    # Other fields of a chat completion request: tools, tool_choice, response_format …
    extra: Mapping[str, object] = field(default_factory=dict)


class TextDelta(NamedTuple):
    """The next words of the reply: never empty, and without characters that a database refuses."""

    text: str
    kind: str = "message"  # or "refusal", or "reasoning"


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A part of a tool call: the first has the id and the name, later ones only more of the arguments."""

    index: int
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of the reply, as its model counts them; at most one, just before the Finish."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a reply that did not break off. It is always the last event."""

    reason: str  # as `reason_of` names it, whatever the server calls it
    unknown_word: str = ""  # the server's own word, where the table of finish words has no such word


StreamEvent = TextDelta | ToolCallDelta | Usage | Finish


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A whole reply."""

    text: str
    usage: Usage | None
    finish_reason: str
