"""Ask a model for notes on a turn, and validate its reply: a gist, a title and facts about the person."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convo import tokens
from convo.errors import UpstreamProtocolError
from convo.memory import model_requests, screen
from convo.models import Message, UserMemory

MAX_FACT_LENGTH = 300
MAX_GIST_LENGTH = 160
MAX_TITLE_LENGTH = 60
# Facts of lower confidence wait for a person's review.
MIN_CONFIDENCE = 0.5
_INSTRUCTIONS = Path(__file__).with_name("notes_instructions.txt").read_text(encoding="utf-8").strip()
# The JSON around a line of data takes at most this many tokens.
_JSON_TOKENS = 50


class _FactSchema(BaseModel):
    model_config = ConfigDict(strict=True)

    kind: str = Field(min_length=1, max_length=40)
    slot: str | None = Field(default=None, max_length=80)
    text: str = Field(min_length=1, max_length=MAX_FACT_LENGTH)
    evidence: list[str] = Field(min_length=1, max_length=50)
    confidence: float = Field(ge=0, le=1)


class _NotesSchema(BaseModel):
    model_config = ConfigDict(strict=True)

    gist: str = Field(min_length=1)
    title: str = ""
    facts: list[_FactSchema] = Field(default=[], max_length=20)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact about a person, and the messages in which they stated it."""

    kind: str
    text: str
    evidence: Sequence[Message]
    source: str
    slot: str | None = None
    confidence: float = 1.0

    @property
    def needs_review(self) -> bool:
        return bool(review_reason(self.text, (message.content for message in self.evidence), self.confidence))


@dataclass(frozen=True, kw_only=True)
class Notes:
    """The notes on one turn: a gist, a title for a session that lacks one, and facts."""

    gist: str = ""
    title: str = ""
    facts: Sequence[Fact] = ()


def request_notes(model: str, messages: Sequence[Message], room: int) -> Notes:
    """Return a model's notes on these messages of a user.

    Raise UpstreamProtocolError if its reply has another form than the one requested.
    """
    fixed_tokens = tokens.count(_INSTRUCTIONS, model) + 2 * _JSON_TOKENS
    tokens_per_message = max(1, (room - fixed_tokens) // len(messages) - _JSON_TOKENS)
    rows = [
        {"id": row.item_id, "text": model_requests.shorten(row.content, tokens_per_message, model)}
        for row in messages
    ]
    text = model_requests.ask(model, _INSTRUCTIONS, model_requests.to_json_lines(rows))
    try:
        reply = _NotesSchema.model_validate(json.loads(_strip_code_fence(text)))
    except (ValueError, ValidationError) as error:
        raise UpstreamProtocolError("The model's notes are not JSON in the requested form.") from error
    messages_by_id = {row.item_id: row for row in messages}
    return Notes(
        gist=one_line(reply.gist, MAX_GIST_LENGTH),
        title=one_line(reply.title, MAX_TITLE_LENGTH),
        facts=[
            _to_fact(fact, messages_by_id)
            for fact in reply.facts
            if messages_by_id.keys() >= set(fact.evidence)
        ],
    )


def review_reason(text: str, messages: Iterable[str], confidence: float) -> str:
    """Return why a person should review this fact before it is used; '' if nothing speaks against it."""
    if screen.is_instruction(text):
        return "It reads like an instruction to the model."
    if any(screen.is_injection(message) for message in messages):
        return "It was said next to words that try to take over a model."
    return "The model was not sure of it." if confidence < MIN_CONFIDENCE else ""


def one_line(text: str, max_length: int) -> str:
    """Return the text on one line, with its secrets masked and cut to the maximum length."""
    # Only the part that may end up in the line is searched for secrets.
    line = " ".join(screen.mask_secrets(text[: 8 * max_length]).split())
    if len(line) <= max_length:
        return line
    prefix = line[: max_length - 1]
    # The cut is made between two words if its second half has a space.
    return (prefix.rsplit(" ", 1)[0] if " " in prefix[max_length // 2 :] else prefix).rstrip(" ,;:") + "…"


def normalize_slot(name: str | None) -> str | None:
    """Normalise the name of a slot, so that stated facts and learned ones share it."""
    return re.sub(r"\W+", "_", (name or "").strip().casefold()).strip("_") or None


def _to_fact(fact: _FactSchema, messages_by_id: dict[str, Message]) -> Fact:
    return Fact(
        kind=fact.kind.strip().casefold(),
        slot=normalize_slot(fact.slot),
        text=" ".join(fact.text.split()),
        evidence=[messages_by_id[id] for id in dict.fromkeys(fact.evidence)],
        source=UserMemory.Source.MODEL,
        confidence=fact.confidence,
    )


def _strip_code_fence(text: str) -> str:
    """Remove the code fence that some models put around JSON."""
    inside = text.removeprefix("```").removesuffix("```")
    return inside.removeprefix("json").strip() if len(text) - len(inside) == 6 else text
