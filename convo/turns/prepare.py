"""Prepare turns: the agent that answers, the question, and the caller's options."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from convo import agents, context, tokens
from convo.agents import Agent
from convo.history import NewMessage, TranscriptMessage
from convo.llm.types import ChatMessage
from convo.models import Session, Turn, TurnRequest

# A guard raises an error to refuse a session; it is called once the session is locked.
SessionGuard = Callable[[Session], None]


def no_guard(session: Session) -> None:
    """Accept every session."""


@dataclass(frozen=True, kw_only=True)
class TurnOptions:
    """The options of one turn, stored with it as a dict, because another process may run it later."""

    model: str = ""
    instructions: str = ""
    max_output_tokens: int | None = None
    # The whole prompt of a caller who keeps the conversation: nothing is added, nothing left out.
    messages: Sequence[ChatMessage] | None = None
    # Fields of the request to the model server: tools, tool_choice, response_format …
    extra: Mapping[str, object] = field(default_factory=dict)

    def tool_tokens(self, model: str) -> int:
        tools = self.extra.get("tools")
        return tokens.count(json.dumps(tools, ensure_ascii=False), model) if tools else 0


def options_of(request: TurnRequest | None) -> TurnOptions:
    return TurnOptions(**request.options) if request else TurnOptions()


def agent_with_options(name: str, options: TurnOptions, *, model: str = "") -> Agent:
    """Return the agent of this name, with the options of the turn applied."""
    agent = agents.get(name, model=options.model or model)
    changes: dict[str, object] = {}
    if options.instructions:
        changes["instructions"] = "\n\n".join(filter(None, [agent.instructions, options.instructions]))
    if options.max_output_tokens:
        changes["max_output_tokens"] = options.max_output_tokens
    return agent.model_copy(update=changes) if changes else agent


@dataclass(frozen=True, kw_only=True)
class PreparedTurn:
    """A prepared turn: its agent, question and options, and the guard that may refuse the session."""

    agent: Agent
    options: TurnOptions
    question: Sequence[NewMessage] = ()
    request: TurnRequest | None = None
    guard: SessionGuard = no_guard

    @classmethod
    def prepare(
        cls,
        name: str,
        question: Sequence[NewMessage] = (),
        request: TurnRequest | None = None,
        guard: SessionGuard = no_guard,
        *,
        model: str = "",
    ) -> "PreparedTurn":
        """Build a prepared turn, or raise if the question can't fit the agent's budget."""
        options = options_of(request)
        agent = agent_with_options(name, options, model=model)
        prepared_turn = cls(agent=agent, options=options, question=question, request=request, guard=guard)
        prepared_turn.check_fits(question)
        return prepared_turn

    @property
    def turn_fields(self) -> dict[str, Any]:
        return {"agent": self.agent.name, "model": self.agent.model_name}

    def check_fits(self, question: Sequence[NewMessage] | Sequence[TranscriptMessage]) -> None:
        if self.options.messages is None:
            tools = self.options.tool_tokens(self.agent.model_name)
            context.check_fits(
                self.agent,
                self.agent.model_name,
                question,
                budget=self.agent.context_tokens,
                tool_tokens=tools,
            )

    def save_request(self, turn: Turn) -> TurnRequest | None:
        """Return the turn's copy of the request; it is saved only if the session is kept."""
        if self.request is None:
            return None
        request = copy(self.request)
        request.turn = turn
        if turn.session.storage == Session.Storage.PERSISTENT:
            request.save(force_insert=True)
        return request
