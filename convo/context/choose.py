"""Choose what the model sees, inside the budget, and say for every part why it is there.

The order of the prompt keeps its beginning still, so that a model server can reuse it: instructions, pinned
facts, the summary, the transcript word for word; then, with the new message, what was looked up for it.
What doesn't fit goes in this order: neighbours of recalled messages, recalled messages that fit the question
least, facts in excess of their share, the oldest exchanges, the summary, pinned facts in excess of theirs.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, takewhile
from typing import Any

from convo import tokens
from convo.agents import Agent
from convo.context.chat import SYSTEM_ROLES, bare, chat_messages, joined_to_question, system_message
from convo.context.parts import Fact, Found, Material, Part, Prompt, Told
from convo.context.quoted import NOTHING, fact_block, recalled_block, summary_block
from convo.context.verbatim import READABLE, Choice, Counted, cost, last, left_out, newest_that_fit
from convo.errors import MessageTooLong
from convo.history import Line, inlined

# No tokenizer packs more characters into a token than this, on average over a message.
_CHARACTERS_A_TOKEN = 16
NO_MATERIAL = Material()
# In a long conversation what is looked up is at most this part of what stands before it, or so many tokens.
ASIDE, LEAST_ASIDE = 6, 200


@dataclass(frozen=True)
class _Aside:
    """What was looked up for the question, and what of it had no room."""

    facts: Part
    recalled: Part
    left: Sequence[Mapping[str, Any]]

    @property
    def tokens(self) -> int:
        return self.facts.tokens + self.recalled.tokens


def choose(
    agent: Agent,
    model: str,
    earlier: Sequence[Line],
    question: Sequence[Line],
    *,
    material: Material = NO_MATERIAL,
    budget: int | None = None,
    total_messages: int | None = None,
    tools: int = 0,
) -> Prompt:
    """The prompt for this question; MessageTooLong when not even the question fits."""
    budget = agent.context_tokens if budget is None else budget
    room = budget - check_fits(agent, model, question, budget=budget, tools=tools)
    share = room
    pinned, unpinned = fact_block(
        "pinned", "pinned by the user", material.pinned, model, room=int(share * agent.memory_share)
    )
    summary = summary_block(material.summary, model, room=(room - pinned.tokens) // 2)
    room -= pinned.tokens + summary.tokens
    choosing = _Choosing(
        agent=agent,
        model=model,
        earlier=earlier,
        question=question,
        material=material,
        share=share,
        ahead=budget - room,
        room=room,
        summarised=summary is not NOTHING,
    )
    choice, aside = choosing.both()
    if choice.spent > room:
        raise MessageTooLong(
            "These results are too long to be sent with the calls that they answer and what led to those. "
            "Shorten them, or raise the agent's context_tokens.",
            param="message",
        )
    # From here on with the images and files that they show.
    verbatim, question = inlined(choice.lines), inlined(question)
    parts = [
        Part(part="tools", why="the caller's tools", tokens=tools),
        Part(part="instructions", why=f"agent {agent.name}", tokens=_instructions_cost(agent, model)),
        pinned,
        summary,
        Part(part="verbatim", why=_why(choice, summary, agent.pairs), tokens=choice.spent, lines=verbatim),
        aside.recalled,
        aside.facts,
        Part(part="question", why="the new message", tokens=cost(question, model), lines=question),
    ]
    left = [
        *_left_facts(unpinned),
        *_uncovered(material, summary),
        *_older(earlier, choice, material.summary, total_messages),
        *left_out(choice, model),
        *aside.left,
    ]
    lines = [*verbatim, *(line for line in question if line.type in READABLE)]
    # Where everything goes as it is, so do system messages in its middle; one that opens it is the first.
    opening = list(takewhile(lambda line: line.role in SYSTEM_ROLES, lines)) if agent.whole else lines
    rest = lines[len(opening) :] if agent.whole else [line for line in lines if line.role not in SYSTEM_ROLES]
    messages = [
        *system_message([agent.instructions, pinned.text, summary.text], opening),
        *chat_messages(rest),
    ]
    return Prompt(
        messages=joined_to_question([aside.recalled.text, aside.facts.text], messages),
        manifest=_manifest(parts, left, model, budget=budget),
        parts=[part for part in parts if part.tokens],
        cut=choice.cut,
    )


def as_given(model: str, messages: Sequence[Mapping[str, Any]], *, budget: int) -> Prompt:
    """A prompt that the caller made: sent as it is, and counted."""
    told, beside = bare(messages)
    spent = tokens.count(json.dumps(told, ensure_ascii=False), model) + beside
    part = Part(part="verbatim", why="the prompt as the caller sent it", tokens=spent)
    return Prompt(messages=messages, manifest=_manifest([part], [], model, budget=budget), parts=[part])


def check_fits(agent: Agent, model: str, question: Sequence[Counted], *, budget: int, tools: int = 0) -> int:
    """The tokens that no choice can save: instructions, question, tools. They must fit the budget."""
    length = sum(len(part.content) for part in question)
    if length > _CHARACTERS_A_TOKEN * budget:
        raise MessageTooLong(
            f"The message has {length} characters, far more than {budget} tokens hold. Shorten it.",
            param="message",
        )
    instructions, asked = _instructions_cost(agent, model), cost(question, model)
    fixed = instructions + asked + tools + tokens.REPLY_OVERHEAD
    if fixed > budget:
        raise MessageTooLong(
            f"The message takes {asked} tokens and the instructions of agent {agent.name!r} {instructions}, "
            f"beside {tools + tokens.REPLY_OVERHEAD} of tools and overhead; together they may take {budget}. "
            "Shorten the message, or raise the agent's context_tokens.",
            param="message",
        )
    return fixed


@dataclass(frozen=True, kw_only=True)
class _Choosing:
    """What the choice between the transcript's end and what was looked up depends on."""

    agent: Agent
    model: str
    earlier: Sequence[Line]
    question: Sequence[Line]
    material: Material
    share: int  # the tokens that instructions and question leave: of them each part has its share
    ahead: int  # the tokens that stand before the transcript's end
    room: int  # the tokens that are left
    summarised: bool

    def both(self) -> tuple[Choice, _Aside]:
        """The transcript's end, and what was looked up within its share: the end has all that is left."""
        choice = self._end(self.room)
        if not choice.cut:
            return choice, self._looked_up(choice, self.room - choice.spent)
        # Something must go anyway: the share of what was looked up is kept free for it.
        choice = self._end(self.room - self._looked_up(choice, self.room).tokens)
        return choice, self._looked_up(choice, self.room - choice.spent)

    def _end(self, budget: int) -> Choice:
        return newest_that_fit(
            self.earlier,
            self.model,
            pairs=self.agent.pairs,
            budget=budget,
            question=self.question,
            refused=self.material.refused,
        )

    def _looked_up(self, choice: Choice, room: int) -> _Aside:
        if self.summarised:
            # A long conversation: most of its prompt stays the same for the next turn, and can be reused.
            room = min(room, max(LEAST_ASIDE, (self.ahead + choice.spent) // ASIDE))
        begins = choice.taken[0][0].position if choice.taken else None
        found = list(islice(_not_shown(self.material, begins), self.agent.recall))
        facts, no_fact_room = fact_block(
            "facts",
            "known about the user",
            self.material.facts,
            self.model,
            room=min(room // 2 if found else room, int(self.share * self.agent.memory_share)),
        )
        recalled, no_room = recalled_block(
            found, self.model, room=min(room - facts.tokens, int(self.share * self.agent.recall_share))
        )
        return _Aside(facts, recalled, [*_left_facts(no_fact_room), *_left_found(no_room)])


def _not_shown(material: Material, begins: int | None) -> Iterator[Found]:
    """The messages found that the prompt doesn't hold word for word already."""

    def shown(session: str, position: int) -> bool:
        return begins is not None and session == material.session and position >= begins

    for hit in material.found:
        if not shown(*hit.old.place):
            beside = [old for old in hit.beside if not shown(*old.place)]
            yield Found(old=hit.old, score=hit.score, beside=beside)


def _why(choice: Choice, summary: Part, pairs: int | None) -> str:
    if pairs is not None:
        return last(min(pairs, len(choice.taken)) or pairs)
    if choice.cut:
        return "as much of the conversation's end as fits"
    return "all since the summary" if summary.tokens else "the whole conversation"


@lru_cache(maxsize=256)
def _instructions_cost(agent: Agent, model: str) -> int:
    if not agent.instructions:
        return 0
    return tokens.count(agent.instructions, model) + tokens.MESSAGE_OVERHEAD


def _manifest(
    parts: Iterable[Part], left: Sequence[Mapping[str, Any]], model: str, *, budget: int
) -> dict[str, Any]:
    shown = [part.manifest for part in parts if part.tokens]
    return {
        "budget": budget,
        "total": sum(part["tokens"] for part in shown) + tokens.REPLY_OVERHEAD,
        "counted_by": tokens.counter(model),
        "reply_overhead": tokens.REPLY_OVERHEAD,
        "parts": shown,
        "left_out": list(left),
    }


def _left_facts(facts: Sequence[Fact]) -> Iterator[dict[str, Any]]:
    if facts:
        yield {"why": "no room in the share of memories", "sources": [fact.source for fact in facts]}


def _left_found(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    if found:
        sources = [{**hit.old.source, "score": round(hit.score, 3)} for hit in found]
        yield {
            "why": "no room in the share of recalled messages",
            "messages": len(found),
            "sources": sources,
        }


def _uncovered(material: Material, summary: Part) -> Iterator[dict[str, Any]]:
    """What only the summary would have told, when there is no room for it."""
    if material.summary and summary is NOTHING:
        told = material.summary
        yield {"why": "no room for the summary of these", "from": told.start, "to": told.end}


def _older(
    earlier: Sequence[Line], choice: Choice, summary: Told | None, total_messages: int | None
) -> Iterator[dict[str, Any]]:
    """What wasn't even read, because what was read exceeds the budget or the window already."""
    if not earlier:
        return
    first = earlier[0].position
    unseen = (total_messages or len(earlier)) - len(earlier)
    if summary and choice.cut and first > summary.end + 1:
        yield {"why": "older than what fits", "from": summary.end + 1, "to": first - 1}
    if not summary and unseen > 0:
        yield {"why": "older than what fits", "to": first - 1, "messages": unseen}
