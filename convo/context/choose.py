"""Choose what the model sees, inside the budget, and say for every part why it is there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from convo import tokens
from convo.agents import Agent
from convo.context.chat import chat_messages, system_message
from convo.errors import MessageTooLong
from convo.history import Line

# Items of other types stay in the transcript; a chat model has no form for them.
_READABLE = {"message", "function_call", "function_call_output"}
# No tokenizer packs more characters into a token than this, on average over a message.
_CHARACTERS_A_TOKEN = 16


class Counted(Protocol):
    """What can say how many tokens it takes."""

    @property
    def content(self) -> str: ...

    def cost(self, model: str) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Part:
    """One stretch of the prompt: what it holds, what it costs, and why it is there."""

    part: str
    why: str
    tokens: int
    lines: Sequence[Line] = ()

    @property
    def manifest(self) -> dict[str, Any]:
        places = {"from": self.lines[0].position, "to": self.lines[-1].position} if self.lines else {}
        return {
            "part": self.part,
            "why": self.why,
            "tokens": self.tokens,
            "messages": len(self.lines),
            **places,
        }


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What is sent to the model, and the account of it."""

    messages: Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Choice:
    taken: list[list[Line]] = field(default_factory=list)
    left: list[tuple[str, list[Line]]] = field(default_factory=list)
    spent: int = 0


def choose(
    agent: Agent,
    model: str,
    earlier: Sequence[Line],
    question: Sequence[Line],
    *,
    budget: int | None = None,
    total_messages: int | None = None,
) -> Prompt:
    """Instructions, the last pairs that fit, and the question; MessageTooLong when not even that fits."""
    budget = agent.context_tokens if budget is None else budget
    fixed = check_fits(agent, model, question, budget=budget)
    readable = [line for line in earlier if line.type in _READABLE]
    choice = _newest_that_fit(_exchanges(readable), model, pairs=agent.window_pairs, budget=budget - fixed)
    verbatim = [line for exchange in choice.taken for line in exchange]
    parts = [
        Part(part="instructions", why=f"agent {agent.name}", tokens=_instructions_cost(agent, model)),
        Part(part="verbatim", why=_last(len(choice.taken)), tokens=choice.spent, lines=verbatim),
        Part(part="question", why="the new message", tokens=_cost(question, model), lines=question),
    ]
    unseen = (total_messages or len(earlier)) - len(earlier)
    return Prompt(
        messages=[
            *system_message(agent.instructions, [*verbatim, *question]),
            *chat_messages([*verbatim, *question]),
        ],
        manifest={
            "budget": budget,
            "total": fixed + choice.spent,
            "counted_by": tokens.counter(model),
            "reply_overhead": tokens.REPLY_OVERHEAD,
            "parts": [part.manifest for part in parts if part.tokens],
            "left_out": [*_left_out(choice.left, model), *_older(unseen, earlier)],
        },
    )


def check_fits(agent: Agent, model: str, question: Sequence[Counted], *, budget: int) -> int:
    """The tokens that no choice can save: instructions, question, overhead. They must fit the budget."""
    length = sum(len(part.content) for part in question)
    if length > _CHARACTERS_A_TOKEN * budget:
        raise MessageTooLong(
            f"The message has {length} characters, far more than {budget} tokens hold. Shorten it.",
            param="message",
        )
    instructions, asked = _instructions_cost(agent, model), _cost(question, model)
    fixed = instructions + asked + tokens.REPLY_OVERHEAD
    if fixed > budget:
        raise MessageTooLong(
            f"The message takes {asked} tokens and the instructions of agent {agent.name!r} {instructions}, "
            f"beside {tokens.REPLY_OVERHEAD} of overhead; together they may take {budget}. "
            "Shorten the message, or raise the agent's context_tokens.",
            param="message",
        )
    return fixed


def _newest_that_fit(exchanges: list[list[Line]], model: str, *, pairs: int, budget: int) -> _Choice:
    choice = _Choice()
    full = ""
    answered_later = False
    for exchange in reversed(exchanges):
        whole, unpaired = _split_unpaired(exchange)
        if unpaired:
            choice.left.append(("a tool call and its result are only sent together", unpaired))
        if answered_later and all(line.role == "user" and line.asked for line in whole):
            choice.left.append(("a question without an answer, and a later one was answered", whole))
            continue
        answered_later = answered_later or any(line.role == "assistant" for line in whole)
        cost = _cost(whole, model)
        if not full and len(choice.taken) >= pairs:
            full = f"older than {_last(pairs)}"
        elif not full and choice.spent + cost > budget:
            full = "no room in the budget"
        if full:
            choice.left.append((full, whole))
            continue
        choice.taken.insert(0, whole)
        choice.spent += cost
    return choice


def _last(pairs: int) -> str:
    return "the last pair" if pairs == 1 else f"the last {pairs} pairs"


def _exchanges(lines: Iterable[Line]) -> list[list[Line]]:
    """The lines by question: each question with all that followed it, a late tool result beside its call."""
    homes: dict[str, list[Line]] = {}
    found: list[list[Line]] = []
    for line in lines:
        if not found or line.role == "user":
            found.append([])
        home = homes.get(line.call_id, found[-1]) if line.type == "function_call_output" else found[-1]
        home.append(line)
        if line.type == "function_call":
            homes[line.call_id] = home
    return [exchange for exchange in found if exchange]


def _split_unpaired(exchange: list[Line]) -> tuple[list[Line], list[Line]]:
    """The exchange without the calls and results that lack their other half, and those."""
    calls = {line.call_id for line in exchange if line.type == "function_call"}
    results = {line.call_id for line in exchange if line.type == "function_call_output"}
    unpaired = calls ^ results
    return (
        [line for line in exchange if line.call_id not in unpaired],
        [line for line in exchange if line.call_id in unpaired],
    )


def _cost(lines: Iterable[Counted], model: str) -> int:
    return sum(line.cost(model) for line in lines)


@lru_cache(maxsize=256)
def _instructions_cost(agent: Agent, model: str) -> int:
    if not agent.instructions:
        return 0
    return tokens.count(agent.instructions, model) + tokens.MESSAGE_OVERHEAD


def _left_out(left: list[tuple[str, list[Line]]], model: str) -> Iterator[dict[str, Any]]:
    """One row a reason and stretch, oldest first."""
    rows: list[dict[str, Any]] = []
    for why, lines in left:
        if not lines:
            continue
        if rows and rows[-1]["why"] == why:
            rows[-1]["from"] = lines[0].position
            rows[-1]["messages"] += len(lines)
            rows[-1]["tokens"] += _cost(lines, model)
            continue
        rows.append(
            {
                "why": why,
                "from": lines[0].position,
                "to": lines[-1].position,
                "messages": len(lines),
                "tokens": _cost(lines, model),
            }
        )
    return reversed(rows)


def _older(unseen: int, earlier: Sequence[Line]) -> list[dict[str, Any]]:
    if unseen <= 0 or not earlier:
        return []
    return [{"why": "older than what fits", "to": earlier[0].position - 1, "messages": unseen}]
