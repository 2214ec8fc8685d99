"""Requests to a model from background work: whole replies, checked before anything is stored."""

import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping

from asgiref.sync import async_to_sync
from django.db.models import Q

from convo import agents, database, llm, tokens
from convo.agents import Agent
from convo.conf import conf
from convo.errors import UpstreamProtocolError

logger = logging.getLogger(__name__)

# CONVO_BACKGROUND_MODEL is set to this to use the built-in rules although replies come from a model.
BUILT_IN_RULES = "offline"
# A request has room for at least this many tokens of data: with less, the work would never get done.
MIN_DATA_BUDGET = 200
# These are role markers of models' own chat templates. No summary or note has a use for them.
_TEMPLATE_MARKERS = re.compile(r"<\|\w+\|>|\[/?INST\]|<</?SYS>>")


def agent_or_default(name: str) -> Agent:
    """Return the agent with this name, or the default agent if agents.yaml no longer has it."""
    agents_by_name = agents.all_agents()
    return agents_by_name.get(name) or agents_by_name[agents.default_name()]


def model_for(agent: Agent) -> str:
    """Return the model for this agent's background work; '' stands for the built-in rules."""
    name = conf().background_model or agent.model_name
    return "" if conf().offline or name == BUILT_IN_RULES else name


def asks_for_notes(agent: Agent) -> bool:
    """Return True if a model takes the notes on this agent's turns."""
    return agent.learn and bool(model_for(agent))


def notes_by_model() -> Q:
    """Return the condition that a model takes the notes on a turn."""
    agents_by_name = agents.all_agents()
    agent_names = [name for name, agent in agents_by_name.items() if asks_for_notes(agent)]
    condition = Q(agent__in=agent_names)
    if agents.default_name() in agent_names:
        # A turn of an agent that agents.yaml no longer has is the default agent's.
        condition |= ~Q(agent__in=agents_by_name)
    return condition


def data_budget(agent: Agent, *reserved: int) -> int:
    return max(MIN_DATA_BUDGET, agent.context_tokens - sum(reserved))


def ask(model: str, instructions: str, data: str) -> str:
    """Return the model's whole reply to these instructions about this data.

    Raise UpstreamProtocolError if the reply can't be trusted. The instructions end with a random mark: a
    reply that repeats it was tricked into revealing them.
    """
    mark = secrets.token_hex(8)
    system_message = f"{instructions}\n\nThis request's mark, which never appears in a reply: {mark}"
    database.close_connections()
    reply = async_to_sync(llm.complete)(
        llm.ModelRequest(
            model=model,
            messages=[{"role": "system", "content": system_message}, {"role": "user", "content": data}],
        )
    )
    if reply.usage:
        token_counts = reply.usage.input_tokens, reply.usage.output_tokens
        logger.info("background: %s used %d input and %d output tokens", model, *token_counts)
    if reply.finish_reason != "stop":
        raise UpstreamProtocolError("The model's reply is incomplete.")
    if mark in reply.text or _TEMPLATE_MARKERS.search(reply.text):
        raise UpstreamProtocolError("The model's reply repeats its instructions.")
    return reply.text.strip()


def to_json_lines(rows: Iterable[Mapping[str, object]]) -> str:
    """Serialize rows as JSON, one object a line, so that no text can break out of its quotes."""
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def shorten(text: str, limit: int, model: str) -> str:
    beginning = tokens.truncate(text, limit, model)
    return beginning if beginning == text else beginning + " …"
