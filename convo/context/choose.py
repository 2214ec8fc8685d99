"""Choose what the model sees within the budget, and record for every part why it is there.

The beginning of the prompt stays the same from turn to turn, so that a model server can reuse it:
instructions, pinned facts, the summary, the transcript word for word. The recalled messages and facts for the
question follow with the new message.

Whatever doesn't fit is left out in this order: neighbours of recalled messages, recalled messages that match
the question least, facts beyond their share, the oldest exchanges, the summary, pinned facts beyond theirs.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice, takewhile

from convo import tokens
from convo.agents import Agent
from convo.context.blocks import EMPTY_PART, fact_block, recalled_block, summary_block
from convo.context.chat import SYSTEM_ROLES, chat_messages, prepend_to_question, system_message, without_files
from convo.context.parts import Prompt, PromptFact, PromptPart, RecalledMessage, Sources, SummaryText
from convo.context.verbatim import (
    SENDABLE_TYPES,
    Choice,
    PastExchange,
    exchanges_before,
    last_pairs,
    left_out,
    newest_that_fit,
    total_tokens,
)
from convo.errors import MessageTooLong
from convo.history import TranscriptMessage, with_inline_data
from convo.history.messages import CountableMessage
from convo.llm.types import ChatMessage
from convo.models import Manifest, ManifestOmission, ManifestSource

# No tokenizer packs more characters into a token than this, on average over a message.
_CHARACTERS_PER_TOKEN = 16
NO_SOURCES = Sources()
# The first is a divisor: in a long conversation, facts and recalled messages take at most that fraction of
# the tokens that precede them. The second is the number of tokens that they may always take.
LOOKUP_DIVISOR, MIN_LOOKUP_TOKENS = 6, 200


@dataclass(frozen=True)
class _Lookups:
    """The facts and recalled messages for the question, and the record of those that had no room."""

    facts: PromptPart
    messages: PromptPart
    omissions: Sequence[ManifestOmission]

    @property
    def tokens(self) -> int:
        return self.facts.tokens + self.messages.tokens


def choose(
    agent: Agent,
    model: str,
    earlier: Sequence[TranscriptMessage],
    question: Sequence[TranscriptMessage],
    *,
    sources: Sources = NO_SOURCES,
    budget: int | None = None,
    total_messages: int | None = None,
    tool_tokens: int = 0,
) -> Prompt:
    """Return the prompt for this question, or raise MessageTooLong if not even the question fits."""
    budget = agent.context_tokens if budget is None else budget
    remaining_tokens = budget - check_fits(agent, model, question, budget=budget, tool_tokens=tool_tokens)
    shared_tokens = remaining_tokens
    pinned_part, omitted_pins = fact_block(
        "pinned",
        "pinned by the user",
        sources.pinned_facts,
        model,
        budget=int(shared_tokens * agent.memory_share),
    )
    summary = summary_block(sources.summary, model, budget=(remaining_tokens - pinned_part.tokens) // 2)
    remaining_tokens -= pinned_part.tokens + summary.tokens
    selection = _Selection(
        agent=agent,
        model=model,
        earlier=earlier,
        question=question,
        material=sources,
        shared_tokens=shared_tokens,
        preceding_tokens=budget - remaining_tokens,
        remaining_tokens=remaining_tokens,
        has_summary=summary is not EMPTY_PART,
    )
    choice, lookups = selection.select()
    if choice.token_count > remaining_tokens:
        raise MessageTooLong(
            "These tool results don't fit together with their calls and the messages that led to those. "
            "Shorten them, or raise the agent's context_tokens.",
            param="message",
        )
    # From here on the messages include the data of their images and files.
    verbatim, question = with_inline_data(choice.messages), with_inline_data(question)
    parts = [
        PromptPart(name="tools", reason="the caller's tools", tokens=tool_tokens),
        PromptPart(
            name="instructions", reason=f"agent {agent.name}", tokens=_instructions_cost(agent, model)
        ),
        pinned_part,
        summary,
        PromptPart(
            name="verbatim",
            reason=_verbatim_reason(choice, summary, agent.recent_pairs),
            tokens=choice.token_count,
            messages=verbatim,
        ),
        lookups.messages,
        lookups.facts,
        PromptPart(
            name="question", reason="the new message", tokens=total_tokens(question, model), messages=question
        ),
    ]
    omissions = [
        *_omitted_facts(omitted_pins),
        *_omitted_summary(sources, summary),
        *_unread_messages(earlier, choice, sources.summary, total_messages),
        *left_out(choice, model),
        *lookups.omissions,
    ]
    transcript = [*verbatim, *(message for message in question if message.type in SENDABLE_TYPES)]
    # If the whole transcript is sent, its system messages stay where they are, except for those at its
    # beginning, which join the first one.
    opening = transcript
    rest = [message for message in transcript if message.role not in SYSTEM_ROLES]
    if agent.whole:
        opening = list(takewhile(lambda message: message.role in SYSTEM_ROLES, transcript))
        rest = transcript[len(opening) :]
    messages = [
        *system_message([agent.instructions, pinned_part.text, summary.text], opening),
        *chat_messages(rest),
    ]
    return Prompt(
        messages=prepend_to_question([lookups.messages.text, lookups.facts.text], messages),
        manifest=_manifest(parts, omissions, model, budget=budget),
        parts=[part for part in parts if part.tokens],
        is_truncated=choice.is_truncated,
    )


def caller_prompt(model: str, messages: Sequence[ChatMessage], *, budget: int) -> Prompt:
    """Return a prompt that the caller wrote: it is counted and sent as it is."""
    bare_messages, file_tokens = without_files(messages)
    prompt_tokens = tokens.count(json.dumps(bare_messages, ensure_ascii=False), model) + file_tokens
    part = PromptPart(name="verbatim", reason="the prompt as the caller sent it", tokens=prompt_tokens)
    return Prompt(messages=messages, manifest=_manifest([part], [], model, budget=budget), parts=[part])


def check_fits(
    agent: Agent, model: str, question: Sequence[CountableMessage], *, budget: int, tool_tokens: int = 0
) -> int:
    """Return the tokens that instructions, question and tools take, or raise MessageTooLong."""
    length = sum(len(message.content) for message in question)
    if length > _CHARACTERS_PER_TOKEN * budget:
        raise MessageTooLong(
            f"The message has {length} characters, far more than {budget} tokens hold. Shorten it.",
            param="message",
        )
    instruction_tokens, question_tokens = _instructions_cost(agent, model), total_tokens(question, model)
    fixed_tokens = instruction_tokens + question_tokens + tool_tokens + tokens.REPLY_OVERHEAD
    if fixed_tokens > budget:
        raise MessageTooLong(
            f"The message takes {question_tokens} tokens, the instructions of agent {agent.name!r} "
            f"{instruction_tokens}, tools and overhead {tool_tokens + tokens.REPLY_OVERHEAD}; "
            f"together they may take {budget}. "
            "Shorten the message, or raise the agent's context_tokens.",
            param="message",
        )
    return fixed_tokens


@dataclass(frozen=True, kw_only=True)
class _Selection:
    """The inputs of the choice between the transcript's end and the facts and recalled messages."""

    agent: Agent
    model: str
    earlier: Sequence[TranscriptMessage]
    question: Sequence[TranscriptMessage]
    material: Sources
    shared_tokens: int  # tokens left by instructions and question, of which each part gets its share
    preceding_tokens: int  # tokens that precede the transcript's end
    remaining_tokens: int  # tokens that are left
    has_summary: bool

    def select(self) -> tuple[Choice, _Lookups]:
        """Select facts and recalled messages within their share; the transcript's end gets the rest."""
        choice = self._transcript_end(self.remaining_tokens)
        if not choice.is_truncated:
            return choice, self._look_up(choice, self.remaining_tokens - choice.token_count)
        # The transcript is cut anyway, so the share of facts and recalled messages is reserved for them.
        lookups = self._look_up(choice, self.remaining_tokens)
        if not lookups.tokens:
            return choice, lookups
        choice = self._transcript_end(self.remaining_tokens - lookups.tokens)
        return choice, self._look_up(choice, self.remaining_tokens - choice.token_count)

    def _transcript_end(self, budget: int) -> Choice:
        return newest_that_fit(self._exchanges, pairs=self.agent.recent_pairs, budget=budget)

    @cached_property
    def _exchanges(self) -> list[PastExchange]:
        return exchanges_before(
            self.earlier, self.model, question=self.question, refused_turns=self.material.refused_turns
        )

    def _look_up(self, choice: Choice, room: int) -> _Lookups:
        if self.has_summary:
            # The room is small in a long conversation, so that most of its prompt stays the same for the next
            # turn and can be reused.
            room = min(
                room, max(MIN_LOOKUP_TOKENS, (self.preceding_tokens + choice.token_count) // LOOKUP_DIVISOR)
            )
        first_position = choice.exchanges[0][0].position if choice.exchanges else None
        matches = list(islice(_not_in_prompt(self.material, first_position), self.agent.recall))
        facts, omitted_facts = fact_block(
            "facts",
            "known about the user",
            self.material.facts,
            self.model,
            budget=min(room // 2 if matches else room, int(self.shared_tokens * self.agent.memory_share)),
        )
        messages, omitted_matches = recalled_block(
            matches,
            self.model,
            budget=min(room - facts.tokens, int(self.shared_tokens * self.agent.recall_share)),
        )
        return _Lookups(facts, messages, [*_omitted_facts(omitted_facts), *_omitted_matches(omitted_matches)])


def _not_in_prompt(material: Sources, first_position: int | None) -> Iterator[RecalledMessage]:
    """Yield the recalled messages that the prompt doesn't hold word for word already."""

    def is_in_prompt(session: str, position: int) -> bool:
        return first_position is not None and session == material.session_id and position >= first_position

    for match in material.matches:
        if not is_in_prompt(*match.message.location):
            neighbours = [message for message in match.neighbours if not is_in_prompt(*message.location)]
            yield RecalledMessage(message=match.message, score=match.score, neighbours=neighbours)


def _verbatim_reason(choice: Choice, summary: PromptPart, pairs: int | None) -> str:
    if pairs is not None:
        return last_pairs(min(pairs, len(choice.exchanges)) or pairs)
    if choice.is_truncated:
        return "as much of the conversation's end as fits"
    return "all since the summary" if summary.tokens else "the whole conversation"


@lru_cache(maxsize=256)
def _instructions_cost(agent: Agent, model: str) -> int:
    if not agent.instructions:
        return 0
    return tokens.count(agent.instructions, model) + tokens.MESSAGE_OVERHEAD


def _manifest(
    parts: Iterable[PromptPart], omissions: Sequence[ManifestOmission], model: str, *, budget: int
) -> Manifest:
    entries = [part.manifest for part in parts if part.tokens]
    return {
        "budget": budget,
        "total": sum(part["tokens"] for part in entries) + tokens.REPLY_OVERHEAD,
        "counted_by": tokens.encoding_name(model),
        "reply_overhead": tokens.REPLY_OVERHEAD,
        "parts": entries,
        "left_out": list(omissions),
    }


def _omitted_facts(facts: Sequence[PromptFact]) -> Iterator[ManifestOmission]:
    if facts:
        yield {"why": "no room in the share of memories", "sources": [fact.source for fact in facts]}


def _omitted_matches(matches: Sequence[RecalledMessage]) -> Iterator[ManifestOmission]:
    if matches:
        sources: list[ManifestSource] = [
            {**match.message.source, "score": round(match.score, 3)} for match in matches
        ]
        yield {
            "why": "no room in the share of recalled messages",
            "messages": len(matches),
            "sources": sources,
        }


def _omitted_summary(material: Sources, summary: PromptPart) -> Iterator[ManifestOmission]:
    """Record the messages that are missing because their summary has no room."""
    if material.summary and summary is EMPTY_PART:
        source = material.summary
        yield {"why": "no room for the summary of these", "from": source.start, "to": source.end}


def _unread_messages(
    messages: Sequence[TranscriptMessage],
    choice: Choice,
    summary: SummaryText | None,
    total_messages: int | None,
) -> Iterator[ManifestOmission]:
    """Record the messages that weren't even read, because newer ones exceed the budget or window already."""
    if not messages:
        return
    first_position = messages[0].position
    unread_count = (total_messages or len(messages)) - len(messages)
    if summary and choice.is_truncated and first_position > summary.end + 1:
        yield {"why": "older than what fits", "from": summary.end + 1, "to": first_position - 1}
    if not summary and unread_count > 0:
        yield {"why": "older than what fits", "to": first_position - 1, "messages": unread_count}
