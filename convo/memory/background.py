"""Asking a model in the background: whole replies, and none of them believed before it was looked at."""

import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from asgiref.sync import async_to_sync

from convo import agents, database, llm, tokens
from convo.agents import Agent
from convo.conf import conf
from convo.errors import UpstreamProtocolError

logger = logging.getLogger(__name__)

# The name under which an operator asks for no model at all, though there is one for the replies.
BUILT_IN = "offline"
# No agent's budget is taken for smaller than this: the work would never get done.
LEAST_ROOM = 200
# Words that open a role in some model's own format have no place in what it was asked for.
_TEMPLATE = re.compile(r"<\|\w+\|>|\[/?INST\]|<</?SYS>>")


def agent_of(name: str) -> Agent:
    """The agent of this name, or the default one where agents.yaml knows it no more."""
    everyone = agents.everyone()
    return everyone.get(name) or everyone[agents.default_name()]


def model_for(agent: Agent) -> str:
    """The model that thinks afterwards for this agent; '' where the built-in rules do it."""
    name = conf().background_model or agent.model_name
    return "" if conf().offline or name == BUILT_IN else name


def room_for(agent: Agent, *taken: int) -> int:
    """The tokens that are left for data in a request of this agent's size."""
    return max(LEAST_ROOM, agent.context_tokens - sum(taken))


def ask(model: str, instructions: str, data: str) -> str:
    """The model's whole reply to these instructions about this data; raises where it can't be trusted.

    A reply that repeats the mark in its instructions was talked into giving them away.
    """
    mark = secrets.token_hex(8)
    told = f"{instructions}\n\nThis request's mark, which never appears in a reply: {mark}"
    database.release()
    reply = async_to_sync(llm.complete)(
        llm.Ask(
            model=model,
            messages=[{"role": "system", "content": told}, {"role": "user", "content": data}],
        )
    )
    if reply.usage:
        spent = reply.usage.input_tokens, reply.usage.output_tokens
        logger.info("background: %s took %d tokens in, %d out", model, *spent)
    if reply.finish_reason != "stop":
        raise UpstreamProtocolError("The model's reply came to no proper end.")
    if mark in reply.text or _TEMPLATE.search(reply.text):
        raise UpstreamProtocolError("The model's reply repeats what it was told to do.")
    return reply.text.strip()


def quoted(rows: Iterable[Mapping[str, Any]]) -> str:
    """Data as a model gets to see it: a JSON object a line, out of which no text can break."""
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def shortened(text: str, limit: int, model: str) -> str:
    """The text, or its beginning and a sign that there was more."""
    kept = tokens.cut(text, limit, model)
    return kept if kept == text else kept + " …"
