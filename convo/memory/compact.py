"""Summarise a whole conversation for a caller who stores it elsewhere."""

from collections.abc import Iterable

from convo import tokens
from convo.agents import Agent
from convo.memory import model_requests
from convo.memory.summarise import JSON_TOKENS, Line, write_summary

RoleText = tuple[str, str]
# The default is about a page, because the summary is read again with every question; the minimum still says
# something.
DEFAULT_LIMIT, MIN_LIMIT = 2000, 100


def compact(messages: Iterable[RoleText], agent: Agent, *, hint: str = "", limit: int = DEFAULT_LIMIT) -> str:
    """Summarise (role, text) messages in at most `limit` tokens, and at most half of what they take.

    The limit is never lower than `MIN_LIMIT`. A long conversation is read in batches, each of which continues
    the summary of those before it.
    """
    messages = list(messages)
    token_count = sum(tokens.count(text, agent.model_name) for _, text in messages)
    limit = max(MIN_LIMIT, min(limit, token_count // 2))
    earlier = ""
    for batch in _batches(messages, agent):
        earlier = write_summary(earlier, batch, agent, limit, hint)
    return earlier


def _batches(messages: Iterable[RoleText], agent: Agent) -> Iterable[list[Line]]:
    """Yield as many messages at a time as one request holds, each cut to what fits by itself."""
    room = model_requests.data_budget(agent, 2 * DEFAULT_LIMIT, 4 * JSON_TOKENS)
    batch: list[Line] = []
    used_tokens = 0
    for role, text in messages:
        beginning = model_requests.shorten(text, room - JSON_TOKENS, agent.model_name)
        cost = tokens.count(beginning, agent.model_name) + JSON_TOKENS
        if batch and used_tokens + cost > room:
            yield batch
            batch, used_tokens = [], 0
        batch.append({"role": role, "text": beginning})
        used_tokens += cost
    if batch:
        yield batch
