"""What a turn will ask: route, recall, choose. No lock is held; the claim keeps the transcript still."""

from collections.abc import Sequence
from dataclasses import dataclass

from convo import agents, context, history, llm
from convo.agents import Agent
from convo.context import Prompt
from convo.history import Draft, Line
from convo.models import AgentVersion, Message, Session, Turn
from convo.turns.claim import Claim

FORMS = {"text": context.single_query, "planning": context.for_planning}


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
    prompt = _prompt(
        claim.turn.session,
        agent,
        claim.question,
        hot,
        upto=claim.upto,
        budget=agent.context_tokens,
        messages=claim.message_count,
    )
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
    return _prompt(
        session,
        chosen,
        question,
        history.newest(session.pk, session.version),
        upto=session.last_position,
        budget=budget,
        messages=session.message_count,
    )


def preview_text(
    session: Session, text: str, form: str, *, agent: str = "", max_tokens: int | None = None
) -> tuple[str, Prompt]:
    """The same prompt as one text within the same budget, in one of the `FORMS`, and what it is made of."""
    budget = max_tokens or agents.get(agent or session.agent).context_tokens
    prompt = preview(session, text, agent=agent, max_tokens=max(budget - context.HEADINGS, 1))
    return FORMS[form](prompt), prompt


def _prompt(
    session: Session,
    agent: Agent,
    question: Sequence[Line],
    hot: list[Line],
    *,
    upto: int,
    budget: int,
    messages: int,
) -> Prompt:
    """What there is for this question behind `upto`, gathered and chosen."""
    model = agent.model_name
    query = "\n".join(line.content for line in question if line.role == Message.Role.USER)
    material = context.gather(session, agent, query, upto=upto)
    # As much of the transcript's end as this agent may see: what no summary tells, or the last pairs.
    earlier = history.recent(
        session.pk,
        hot,
        pairs=None if agent.summaries else agent.window_pairs,
        budget=budget,
        model=model,
        after=material.summary.end if material.summary else 0,
    )
    return context.choose(
        agent, model, earlier, question, material=material, budget=budget, total_messages=messages
    )
