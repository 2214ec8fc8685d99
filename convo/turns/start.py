"""What a turn starts with: who answers, what is asked, and what the caller wants beside."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from convo import agents, context, tokens
from convo.agents import Agent
from convo.history import Draft, Line
from convo.models import Asked, Session, Turn

# What may refuse a session, once it is locked.
Check = Callable[[Session], None]


def anything(session: Session) -> None:
    """The check that refuses no session."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """They act for this turn alone. As a dict they are kept with it, for it may be run later, elsewhere."""

    model: str = ""
    instructions: str = ""
    max_output_tokens: int | None = None
    # The whole prompt, where the caller keeps the conversation: nothing is added, nothing left out.
    messages: Sequence[Mapping[str, Any]] | None = None
    # Fields of the request to the model server: tools, tool_choice, response_format …
    extra: Mapping[str, Any] = field(default_factory=dict)

    def tool_tokens(self, model: str) -> int:
        """What the tools take of the budget."""
        tools = self.extra.get("tools")
        return tokens.count(json.dumps(tools, ensure_ascii=False), model) if tools else 0


def wishes_of(asked: Asked | None) -> Wishes:
    return Wishes(**asked.wishes) if asked else Wishes()


def answering(name: str, wishes: Wishes, *, model: str = "") -> Agent:
    """The agent of this name, as these wishes would have it."""
    agent = agents.get(name, model=wishes.model or model)
    changes: dict[str, Any] = {}
    if wishes.instructions:
        changes["instructions"] = "\n\n".join(filter(None, [agent.instructions, wishes.instructions]))
    if wishes.max_output_tokens:
        changes["max_output_tokens"] = wishes.max_output_tokens
    return agent.model_copy(update=changes) if changes else agent


@dataclass(frozen=True, kw_only=True)
class Start:
    """A turn that is to begin: who answers, what is asked, and what else is wanted."""

    agent: Agent
    wishes: Wishes
    question: Sequence[Draft] = ()
    asked: Asked | None = None
    check: Check = anything

    @classmethod
    def of(
        cls,
        name: str,
        question: Sequence[Draft] = (),
        asked: Asked | None = None,
        check: Check = anything,
        *,
        model: str = "",
    ) -> "Start":
        """It, when agent and question go together; else what is wrong."""
        wishes = wishes_of(asked)
        agent = answering(name, wishes, model=model)
        start = cls(agent=agent, wishes=wishes, question=question, asked=asked, check=check)
        start.check_fits(question)
        return start

    @property
    def fields(self) -> dict[str, Any]:
        """What the turn's row knows of it from the beginning."""
        return {"agent": self.agent.name, "model": self.agent.model_name}

    def check_fits(self, question: Sequence[Draft] | Sequence[Line]) -> None:
        if self.wishes.messages is None:
            tools = self.wishes.tool_tokens(self.agent.model_name)
            context.check_fits(
                self.agent, self.agent.model_name, question, budget=self.agent.context_tokens, tools=tools
            )

    def noted(self, turn: Turn) -> Asked | None:
        """What was asked for, kept with the turn; not where nothing of a conversation is kept."""
        if self.asked is None:
            return None
        noted = copy(self.asked)
        noted.turn = turn
        if turn.session.storage == Session.Storage.KEPT:
            noted.save(force_insert=True)
        return noted
