"""Summarise a whole conversation for a caller who stores it elsewhere."""

from collections.abc import Iterable, Sequence

from convo import tokens
from convo.agents import Agent
from convo.errors import UpstreamProtocolError
from convo.memory import model_requests
from convo.memory.extractive import extract
from convo.memory.summarise import INSTRUCTIONS, JSON_TOKENS, WORDS_PER_TOKEN

RoleText = tuple[str, str]
# The default is about a page, because the summary is read again with every question; the minimum still says
# something.
DEFAULT_LIMIT, MIN_LIMIT = 2000, 100


def compact(messages: Iterable[RoleText], agent: Agent, *, hint: str = "", limit: int = DEFAULT_LIMIT) -> str:
    """Summarise (role, text) messages in at most `limit` tokens, and at most half of what they take.

    The limit is never lower than `MIN_LIMIT`. A long conversation is read in batches, each of which continues
    the summary of those before it.
    """
    model, lines = model_requests.model_for(agent), list(messages)
    token_count = sum(tokens.count(text, agent.model_name) for _, text in lines)
    limit = max(MIN_LIMIT, min(limit, token_count // 2))
    earlier = ""
    for batch in _batches(lines, agent):
        earlier = _continue_summary(earlier, batch, agent, model, hint, limit)
    return earlier


def _continue_summary(
    earlier: str, lines: Sequence[RoleText], agent: Agent, model: str, hint: str, limit: int
) -> str:
    if not model:
        messages = ((role, "", text) for role, text in lines)
        return extract(earlier, messages, limit=limit, model=agent.model_name)
    instructions = INSTRUCTIONS.format(words=int(limit * WORDS_PER_TOKEN))
    summary_rows = [{"earlier_summary": earlier}] if earlier else []
    data = [*summary_rows, *({"role": role, "text": text} for role, text in lines)]
    full_instructions = (
        f"{instructions}\n\nThe application asks in addition: {hint}" if hint else instructions
    )
    text = model_requests.ask(model, full_instructions, model_requests.to_json_lines(data))
    cost = tokens.count(text, model)
    if not 0 < cost <= limit:
        raise UpstreamProtocolError(f"The summary takes {cost} tokens; it may take from 1 to {limit}.")
    return text


def _batches(messages: list[RoleText], agent: Agent) -> Iterable[list[RoleText]]:
    """Yield as many messages at a time as one request holds, each cut to what fits by itself."""
    room = model_requests.data_budget(agent, 2 * DEFAULT_LIMIT, 4 * JSON_TOKENS)
    batch: list[RoleText] = []
    used_tokens = 0
    for role, text in messages:
        beginning = model_requests.shorten(text, room - JSON_TOKENS, agent.model_name)
        cost = tokens.count(beginning, agent.model_name) + JSON_TOKENS
        if batch and used_tokens + cost > room:
            yield batch
            batch, used_tokens = [], 0
        batch.append((role, beginning))
        used_tokens += cost
    if batch:
        yield batch
