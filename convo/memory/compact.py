"""A whole conversation in few words, for a caller who keeps it elsewhere."""

from collections.abc import Iterable, Sequence

from convo import tokens
from convo.agents import Agent
from convo.errors import UpstreamProtocolError
from convo.memory import background
from convo.memory.extractive import extract
from convo.memory.summarise import AROUND, INSTRUCTIONS, WORDS_A_TOKEN

Said = tuple[str, str]
# As much as a page, for it is read again with every question; and as little as still says something.
LIMIT, LEAST = 2000, 100


def compact(said: Iterable[Said], agent: Agent, *, hint: str = "", limit: int = LIMIT) -> str:
    """What was said by whom, in so many tokens and half as many as it took; a long one is read in pieces."""
    model, lines = background.model_for(agent), list(said)
    took = sum(tokens.count(text, agent.model_name) for _, text in lines)
    limit = max(LEAST, min(limit, took // 2))
    earlier = ""
    for batch in _batches(lines, agent):
        earlier = _told(earlier, batch, agent, model, hint, limit)
    return earlier


def _told(earlier: str, lines: Sequence[Said], agent: Agent, model: str, hint: str, limit: int) -> str:
    if not model:
        told = ((role, "", text) for role, text in lines)
        return extract(earlier, told, limit=limit, model=agent.model_name)
    instructions = INSTRUCTIONS.format(words=int(limit * WORDS_A_TOKEN))
    before = [{"earlier_summary": earlier}] if earlier else []
    data = [*before, *({"role": role, "text": text} for role, text in lines)]
    wish = f"{instructions}\n\nThe application asks in addition: {hint}" if hint else instructions
    text = background.ask(model, wish, background.quoted(data))
    cost = tokens.count(text, model)
    if not 0 < cost <= limit:
        raise UpstreamProtocolError(f"The summary takes {cost} tokens; it may take from 1 to {limit}.")
    return text


def _batches(said: list[Said], agent: Agent) -> Iterable[list[Said]]:
    """As much at a time as one request holds; of a message that is too long by itself, its beginning."""
    room = background.room_for(agent, 2 * LIMIT, 4 * AROUND)
    batch: list[Said] = []
    spent = 0
    for role, text in said:
        short = background.shortened(text, room - AROUND, agent.model_name)
        cost = tokens.count(short, agent.model_name) + AROUND
        if batch and spent + cost > room:
            yield batch
            batch, spent = [], 0
        batch.append((role, short))
        spent += cost
    if batch:
        yield batch
