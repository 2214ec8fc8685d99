"""Build the request to the model: choose the agent, look up what belongs to the question, fit the budget.

No lock is held meanwhile: the turn's claim keeps the transcript from changing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from convo import agents, context, history, llm
from convo.agents import Agent
from convo.context import Prompt
from convo.history import NewMessage, TranscriptMessage
from convo.history.statements import PromptRecord
from convo.models import AgentVersion, Message, Person, Session, TurnRequest
from convo.turns.claim import Claim
from convo.turns.prepare import agent_with_options, options_of

FORMS = {"text": context.single_query, "planning": context.for_planning}


@dataclass(frozen=True)
class AssembledRequest:
    """A request that is ready to be sent, the record of its prompt, and the newest messages before it."""

    request: llm.ModelRequest
    prompt: PromptRecord
    newest_messages: Sequence[TranscriptMessage]


def assemble(claim: Claim) -> AssembledRequest:
    """Choose agent, model and prompt for this turn, and store nothing yet."""
    options = options_of(claim.request)
    agent = agent_with_options(claim.agent, options, model=claim.turn.model)
    newest_messages: list[TranscriptMessage] = []
    cache_hit = None
    if options.messages is None:
        if agent.memory or agent.recall:
            _load_person(claim.turn.session)
        newest_messages, cache_hit = history.look_up_newest(claim.session_id, claim.version, upto=claim.upto)
        prompt = _build_prompt(
            claim.turn.session,
            agent,
            claim.question,
            newest_messages,
            upto=claim.upto,
            budget=agent.context_tokens,
            message_count=claim.message_count,
            tool_tokens=options.tool_tokens(agent.model_name),
        )
    else:
        prompt = context.caller_prompt(agent.model_name, options.messages, budget=agent.context_tokens)
    named_agent = agents.get(claim.agent, model=agent.model)
    version = AgentVersion(sha256=named_agent.version, name=named_agent.name, config=named_agent.config)
    record = PromptRecord(
        model=named_agent.model_name, agent_version=version, manifest=prompt.manifest, cache_hit=cache_hit
    )
    request = llm.ModelRequest(
        model=agent.model_name,
        messages=prompt.messages,
        temperature=agent.temperature,
        max_output_tokens=agent.max_output_tokens,
        extra=options.extra,
    )
    return AssembledRequest(request, record, newest_messages)


def _load_person(session: Session) -> None:
    """Load the session's person and owner in one statement, unless the claim has them already."""
    if {"person", "owner"} <= session._state.fields_cache.keys():
        return
    # They are those of the row as it is now: a guest may have signed up since the session was locked.
    if person := Person.objects.select_related("owner").filter(sessions=session).first():
        session.person, session.owner = person, person.owner


def preview(
    session: Session,
    question: str | Sequence[NewMessage],
    *,
    agent: str = "",
    max_tokens: int | None = None,
    request: TurnRequest | None = None,
    upto: int | None = None,
) -> Prompt:
    """Return the prompt that this question would get now, with its manifest; store and send nothing.

    With `upto`, the prompt continues from that earlier position.
    """
    options = options_of(request)
    chosen_agent = agent_with_options(agent or session.agent, options)
    model, budget = chosen_agent.model_name, max_tokens or chosen_agent.context_tokens
    last_position, tool_tokens = session.last_position if upto is None else upto, options.tool_tokens(model)
    new_messages = _question_of(question) if isinstance(question, str) else question
    question_messages = [
        message.preview_at(position) for position, message in enumerate(new_messages, last_position + 1)
    ]
    context.check_fits(chosen_agent, model, question_messages, budget=budget, tool_tokens=tool_tokens)
    return _build_prompt(
        session,
        chosen_agent,
        question_messages,
        history.look_up_newest(session.pk, session.version, upto=last_position)[0],
        upto=last_position,
        budget=budget,
        message_count=session.message_count,
        tool_tokens=tool_tokens,
    )


def preview_text(
    session: Session, text: str, form: str, *, agent: str = "", max_tokens: int | None = None
) -> tuple[str, Prompt]:
    """Return the prompt of `preview`, written as one text in one of the `FORMS`, and the prompt itself.

    The text stays within the same budget.
    """
    budget = max_tokens or agents.get(agent or session.agent).context_tokens
    prompt = preview(session, text, agent=agent, max_tokens=max(budget - context.HEADING_TOKENS, 1))
    return FORMS[form](prompt), prompt


def _question_of(text: str) -> list[NewMessage]:
    return [NewMessage(role="user", content=text)] if text else []


def _build_prompt(
    session: Session,
    agent: Agent,
    question: Sequence[TranscriptMessage],
    newest_messages: list[TranscriptMessage],
    **limits: int,
) -> Prompt:
    # Such an agent sends the whole transcript, and uses summary and recall only if that doesn't fit.
    if agent.whole:
        whole_agent = agent.without_summary_and_recall
        prompt = _choose_prompt(session, whole_agent, question, newest_messages, **limits)
        if not prompt.is_truncated:
            return prompt
    return _choose_prompt(session, agent, question, newest_messages, **limits)


def _choose_prompt(
    session: Session,
    agent: Agent,
    question: Sequence[TranscriptMessage],
    newest_messages: list[TranscriptMessage],
    *,
    upto: int,
    budget: int,
    message_count: int,
    tool_tokens: int,
) -> Prompt:
    model = agent.model_name
    query = "\n".join(message.content for message in question if message.role == Message.Role.USER)
    sources = context.gather(session, agent, query, upto=upto)
    # The agent sees the transcript's end: the messages since the summary, or the last pairs.
    earlier_messages = history.recent_messages(
        session.pk,
        newest_messages,
        pairs=agent.recent_pairs,
        budget=budget,
        model=model,
        after=sources.summary.end if sources.summary else 0,
    )
    recent_messages = _since_last_compaction(earlier_messages, question)
    sources = replace(sources, refused_turns=context.refused_image_turns(recent_messages))
    return context.choose(
        agent,
        model,
        recent_messages,
        question,
        sources=sources,
        budget=budget,
        total_messages=message_count if len(recent_messages) == len(earlier_messages) else None,
        tool_tokens=tool_tokens,
    )


def _since_last_compaction(
    messages: list[TranscriptMessage], question: Sequence[TranscriptMessage]
) -> list[TranscriptMessage]:
    """Return the messages since the last compaction, with that compaction; none if the question has one."""
    if any(map(_is_compaction, question)):
        return []
    last_compaction = max(
        (index for index, message in enumerate(messages) if _is_compaction(message)), default=0
    )
    return messages[last_compaction:]


def _is_compaction(message: TranscriptMessage) -> bool:
    # A compaction without an agent came from a caller, who chose to send it together with the messages that
    # it summarises, so it replaces nothing.
    return message.type == "compaction" and bool(message.agent)
