"""What a turn will ask: route, recall, choose. No lock is held; the claim keeps the transcript still."""

from collections.abc import Sequence
from dataclasses import dataclass

from convo import agents, context, history, llm
from convo.context import Prompt
from convo.history import Draft, Line
from convo.models import AgentVersion, Session, Turn
from convo.turns.claim import Claim


@dataclass(frozen=True)
class Assembled:
    """A request that is ready to go, and what it was made from."""

    ask: llm.Ask
    total: int
    hot: Sequence[Line]


def assemble(claim: Claim) -> Assembled:
    """Choose agent, model and prompt for this turn, and note on its row what was chosen and why."""
    agent = agents.get(claim.agent)
    model = agent.model_name
    hot = history.newest(claim.session_id, claim.before, upto=claim.upto)
    earlier = history.recent(
        claim.session_id, hot, pairs=agent.window_pairs, budget=agent.context_tokens, model=model
    )
    prompt = context.choose(agent, model, earlier, claim.question, total_messages=claim.message_count)
    AgentVersion.objects.get_or_create(
        sha256=agent.version, defaults={"name": agent.name, "config": agent.config}
    )
    Turn.objects.running().filter(pk=claim.turn.pk).update(
        model=model, agent_version=agent.version, manifest=prompt.manifest
    )
    ask = llm.Ask(
        model=model,
        messages=prompt.messages,
        temperature=agent.temperature,
        max_output_tokens=agent.max_output_tokens,
    )
    return Assembled(ask, prompt.manifest["total"], hot)


def preview(session: Session, text: str, *, agent: str = "", max_tokens: int | None = None) -> Prompt:
    """The prompt that this question would get now, and the account of it. Nothing is stored or asked."""
    chosen = agents.get(agent or session.agent)
    model, budget = chosen.model_name, max_tokens or chosen.context_tokens
    question = (
        [history.line_of_draft(Draft(role="user", content=text), session.last_position + 1)] if text else []
    )
    context.check_fits(chosen, model, question, budget=budget)
    hot = history.newest(session.pk, session.version)
    earlier = history.recent(session.pk, hot, pairs=chosen.window_pairs, budget=budget, model=model)
    return context.choose(
        chosen, model, earlier, question, budget=budget, total_messages=session.message_count
    )
