"""Summarise sessions, and whole conversations for callers who store them elsewhere.

A session's summary is a rolling one: each row covers new messages and all earlier ones, so that the newest is
enough.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict
from uuid import UUID

from django.db import transaction

from convo import database, tokens
from convo.agents import Agent
from convo.conf import conf
from convo.errors import UpstreamProtocolError
from convo.jobs import job, require
from convo.memory import due, model_requests
from convo.memory.due_range import DueRange, has_summaries, next_due_range
from convo.memory.extractive import extract
from convo.models import Message, Session, Summary

logger = logging.getLogger(__name__)

RoleText = tuple[str, str]

PROMPT_VERSION = "1"
INSTRUCTIONS = Path(__file__).with_name("summary_instructions.txt").read_text(encoding="utf-8").strip()
# These are the lowest values that an agent may have: any turn makes a summary due.
EAGER_SETTINGS = {"summary_turns": 1, "summary_tokens": 100}
# A word takes more than a token, so the length that is requested stays well below the one that is refused.
WORDS_PER_TOKEN = 0.5
# The limits of a compacted conversation, in tokens. The default is about a page, because the summary is read
# again with every question; the minimum still says something.
COMPACT_LIMIT, MIN_COMPACT_LIMIT = 2000, 100
# JSON takes at most this many tokens around a line of data; four times as many cover the rest of a request.
JSON_TOKENS = 40


class _Line(TypedDict):
    """A message as the model that summarises it reads it."""

    position: NotRequired[int]
    role: str
    name: NotRequired[str]
    text: str


@job("summarise", overdue=due.overdue)
def summarise(session_id: UUID | str) -> None:
    """Bring this session's summaries up to date, with a row for each part that a model can read at once."""
    _bring_up_to_date(session_id)


@job("summarise_now", overdue=lambda limit: ())
def summarise_now(session_id: UUID | str) -> None:
    """Summarise all messages before the session's last exchanges, however few they are."""
    _bring_up_to_date(session_id, **EAGER_SETTINGS)


def request_summary(session: Session) -> bool:
    """Request a summary of this session soon; return False if its agent or its kind has none."""
    if not session.is_recallable or not has_summaries(model_requests.agent_or_default(session.agent)):
        return False
    require("summarise_now", session.pk)
    return True


def _bring_up_to_date(session_id: UUID | str, **agent_settings: int) -> None:
    session = Session.objects.filter(pk=session_id).first()
    if session is None or session.state == Session.State.DELETED:
        return
    agent = model_requests.agent_or_default(session.agent).model_copy(update=agent_settings)
    end = time.monotonic() + conf().task_seconds / 2
    while due_range := next_due_range(session, agent):
        # The rest of a long session stays due, and the next sweep continues with it.
        if time.monotonic() > end or not _add_summary(session, agent, due_range):
            return
    due.clear_due(session)


def _write_summary(earlier: str, lines: Sequence[_Line], agent: Agent, limit: int, hint: str = "") -> str:
    """Continue an earlier summary with these lines, in at most `limit` tokens."""
    model = model_requests.model_for(agent)
    if not model:
        messages = ((line["role"], line.get("name", ""), line["text"]) for line in lines)
        return extract(earlier, messages, limit=limit, model=agent.model_name)
    instructions = _instructions(limit)
    if hint:
        instructions += f"\n\nThe application asks in addition: {hint}"
    summary_rows = [{"earlier_summary": earlier}] if earlier else []
    text = model_requests.ask(model, instructions, model_requests.to_json_lines([*summary_rows, *lines]))
    cost = tokens.count(text, model)
    if not 0 < cost <= limit:
        raise UpstreamProtocolError(f"The summary takes {cost} tokens; it may take from 1 to {limit}.")
    return text


def _instructions(limit: int) -> str:
    return INSTRUCTIONS.format(words=max(1, int(limit * WORDS_PER_TOKEN)))


def _add_summary(session: Session, agent: Agent, due_range: DueRange) -> bool:
    """Make one summary; return whether it was saved, which needs an unchanged transcript."""
    model = model_requests.model_for(agent)
    limit = int(agent.summary_share * agent.context_tokens)
    earlier = due_range.previous.text if due_range.previous else ""
    counting_model = model or agent.model_name
    reserved = [tokens.count(text, counting_model) for text in (_instructions(limit), earlier)]
    room = model_requests.data_budget(agent, *reserved, limit, 4 * JSON_TOKENS)
    due_range, lines = _fit_into(due_range, room, counting_model)
    text = _write_summary(earlier, lines, agent, limit)
    if not text:
        raise UpstreamProtocolError("The summary is empty.")
    return _save_if_unchanged(
        session.pk,
        due_range,
        text=text,
        tokens=tokens.count(text, counting_model),
        source=Summary.Source.MODEL if model else Summary.Source.EXTRACTIVE,
        model=model,
        prompt_version=PROMPT_VERSION,
    )


@database.retry_conflicts
@transaction.atomic
def _save_if_unchanged(session_id: UUID, due_range: DueRange, **fields: str | int) -> bool:
    session = Session.objects.lock(session_id)
    if session is None or session.epoch != due_range.epoch:
        return False
    if Summary.objects.fresh(session).first() != due_range.previous:
        return False
    Summary.objects.create(
        session=session,
        from_position=due_range.from_position,
        to_position=due_range.to_position,
        previous=due_range.previous,
        **fields,
    )
    logger.info(
        "summarised session %s: positions %d to %d",
        session_id,
        due_range.from_position,
        due_range.to_position,
    )
    return True


def _fit_into(due_range: DueRange, room: int, model: str) -> tuple[DueRange, list[_Line]]:
    """Return as many exchanges as a request holds, with their lines; one that is too long is shortened."""
    lines: list[_Line] = []
    for index, block in enumerate(due_range.exchanges):
        block_lines = list(_lines(block))
        room -= _count_tokens(block_lines, model)
        if room < 0:
            if index:
                return due_range.first_exchanges(index), lines
            return due_range.first_exchanges(1), _shorten_lines(
                block_lines, room + _count_tokens(block_lines, model), model
            )
        lines += block_lines
    return due_range, lines


def _shorten_lines(lines: list[_Line], room: int, model: str) -> list[_Line]:
    """Shorten the texts of these lines to fit; of very many lines, keep the first and the last."""
    min_tokens = 2 * JSON_TOKENS
    if len(lines) * min_tokens > room:
        half = max(1, room // min_tokens // 2)
        lines = lines[:half] + lines[-half:] if len(lines) > 1 else lines
    tokens_per_line = max(1, room // len(lines) - JSON_TOKENS)
    return [{**line, "text": model_requests.shorten(line["text"], tokens_per_line, model)} for line in lines]


def _count_tokens(lines: Iterable[_Line], model: str) -> int:
    return sum(tokens.count(model_requests.to_json_lines([line]) + "\n", model) for line in lines)


def _lines(block: Iterable[Message]) -> Iterator[_Line]:
    for row in block:
        item = row.item or {}
        text = row.content
        if row.type == "function_call":
            text = f"calls {item.get('name')}({item.get('arguments')})"
        line: _Line = {"position": row.position, "role": row.role, "text": text}
        yield {**line, "name": row.name} if row.name and row.type == "message" else line


def compact(messages: Iterable[RoleText], agent: Agent, *, hint: str = "", limit: int = COMPACT_LIMIT) -> str:
    """Summarise (role, text) messages in at most `limit` tokens, and at most half of what they take.

    The limit is never lower than `MIN_COMPACT_LIMIT`. A long conversation is read in batches, each of which
    continues the summary of those before it.
    """
    messages = list(messages)
    token_count = sum(tokens.count(text, agent.model_name) for _, text in messages)
    limit = max(MIN_COMPACT_LIMIT, min(limit, token_count // 2))
    earlier = ""
    for batch in _batches(messages, agent):
        earlier = _write_summary(earlier, batch, agent, limit, hint)
    return earlier


def _batches(messages: Iterable[RoleText], agent: Agent) -> Iterable[list[_Line]]:
    """Yield as many messages at a time as one request holds, each cut to what fits by itself."""
    room = model_requests.data_budget(agent, 2 * COMPACT_LIMIT, 4 * JSON_TOKENS)
    batch: list[_Line] = []
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
