"""What a turn will ask: route, recall, choose. No lock is held; the claim keeps the transcript still."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from convo import agents, context, history, llm
from convo.agents import Agent
from convo.context import Prompt
from convo.history import Draft, Line
from convo.models import AgentVersion, Asked, Message, Person, Session, Turn
from convo.turns.claim import Claim
from convo.turns.start import answering, wishes_of

FORMS = {"text": context.single_query, "planning": context.for_planning}


@dataclass(frozen=True)
class Assembled:
    """A request that is ready to go, and what it was made from."""

    ask: llm.Ask
    total: int
    hot: Sequence[Line]


def assemble(claim: Claim) -> Assembled:
    """Choose agent, model and prompt for this turn, and note on its row what was chosen and why."""
    wishes = wishes_of(claim.asked)
    agent = answering(claim.agent, wishes, model=claim.turn.model)
    hot: list[Line] = []
    at_hand = None
    if wishes.messages is None:
        _meet(claim.turn.session)
        hot, at_hand = history.look_up(claim.session_id, claim.before, upto=claim.upto)
        prompt = _prompt(
            claim.turn.session,
            agent,
            claim.question,
            hot,
            upto=claim.upto,
            budget=agent.context_tokens,
            messages=claim.message_count,
            tools=wishes.tool_tokens(agent.model_name),
        )
    else:
        prompt = context.as_given(agent.model_name, wishes.messages, budget=agent.context_tokens)
    _note(claim, agents.get(claim.agent, model=agent.model), prompt, hot=at_hand)
    ask = llm.Ask(
        model=agent.model_name,
        messages=prompt.messages,
        temperature=agent.temperature,
        max_output_tokens=agent.max_output_tokens,
        extra=wishes.extra,
    )
    return Assembled(ask, prompt.manifest["total"], hot)


def _meet(session: Session) -> None:
    """Let the session know whose it is now: a guest may have got an account since it was claimed."""
    if person := Person.objects.select_related("owner").filter(sessions=session).first():
        session.person, session.owner = person, person.owner


def _note(claim: Claim, agent: Agent, prompt: Prompt, *, hot: bool | None) -> None:
    AgentVersion.objects.get_or_create(
        sha256=agent.version, defaults={"name": agent.name, "config": agent.config}
    )
    Turn.objects.running().filter(pk=claim.turn.pk).update(
        model=agent.model_name, agent_version=agent.version, manifest=prompt.manifest, hot=hot
    )


def preview(
    session: Session,
    question: str | Sequence[Draft],
    *,
    agent: str = "",
    max_tokens: int | None = None,
    asked: Asked | None = None,
    upto: int | None = None,
) -> Prompt:
    """The prompt that this question would get now, and the account of it. Nothing is stored or asked.

    With `upto` it goes on from an earlier position.
    """
    wishes = wishes_of(asked)
    chosen = answering(agent or session.agent, wishes)
    model, budget = chosen.model_name, max_tokens or chosen.context_tokens
    end, tools = session.last_position if upto is None else upto, wishes.tool_tokens(model)
    drafts = _said(question) if isinstance(question, str) else question
    lines = [history.line_of_draft(draft, end + place) for place, draft in enumerate(drafts, 1)]
    context.check_fits(chosen, model, lines, budget=budget, tools=tools)
    return _prompt(
        session,
        chosen,
        lines,
        history.newest(session.pk, session.version, upto=end),
        upto=end,
        budget=budget,
        messages=session.message_count,
        tools=tools,
    )


def preview_text(
    session: Session, text: str, form: str, *, agent: str = "", max_tokens: int | None = None
) -> tuple[str, Prompt]:
    """The same prompt as one text within the same budget, in one of the `FORMS`, and what it is made of."""
    budget = max_tokens or agents.get(agent or session.agent).context_tokens
    prompt = preview(session, text, agent=agent, max_tokens=max(budget - context.HEADINGS, 1))
    return FORMS[form](prompt), prompt


def _said(text: str) -> list[Draft]:
    return [Draft(role="user", content=text)] if text else []


def _prompt(
    session: Session,
    agent: Agent,
    question: Sequence[Line],
    hot: list[Line],
    *,
    upto: int,
    budget: int,
    messages: int,
    tools: int = 0,
) -> Prompt:
    """What there is for this question behind `upto`, gathered and chosen."""
    places: dict[str, Any] = {"upto": upto, "budget": budget, "messages": messages, "tools": tools}
    if agent.whole:
        whole = _chosen(session, agent.unaided, question, hot, **places)
        return _chosen(session, agent, question, hot, **places) if whole.cut else whole
    return _chosen(session, agent, question, hot, **places)


def _chosen(
    session: Session,
    agent: Agent,
    question: Sequence[Line],
    hot: list[Line],
    *,
    upto: int,
    budget: int,
    messages: int,
    tools: int,
) -> Prompt:
    model = agent.model_name
    query = "\n".join(line.content for line in question if line.role == Message.Role.USER)
    material = context.gather(session, agent, query, upto=upto)
    # As much of the transcript's end as this agent may see: what no summary tells, or the last pairs.
    earlier = history.recent(
        session.pk,
        hot,
        pairs=agent.pairs,
        budget=budget,
        model=model,
        after=material.summary.end if material.summary else 0,
    )
    untold = _not_told_in_short(earlier, question)
    material = replace(material, refused=context.refused(untold))
    return context.choose(
        agent,
        model,
        untold,
        question,
        material=material,
        budget=budget,
        total_messages=messages if len(untold) == len(earlier) else None,
        tools=tools,
    )


def _not_told_in_short(earlier: list[Line], question: Sequence[Line]) -> list[Line]:
    """The lines that no compaction of ours stands for; the last one with what came after it."""
    if any(map(_is_compaction, question)):
        return []
    last = max((at for at, line in enumerate(earlier) if _is_compaction(line)), default=0)
    return earlier[last:]


def _is_compaction(line: Line) -> bool:
    """One that a caller sends along stands beside what it tells of: both were chosen so."""
    return line.type == "compaction" and bool(line.agent)
