"""A turn's contents other than its messages: a queued question, a reply's draft and its chunk lengths.

Those of an ephemeral session are in the cache alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from convo.history import ephemeral, statements
from convo.history.statements import Draft
from convo.models import AgentVersion, ItemOutline, ReplyItem, Session, Turn, rebuild_draft_items


def save_drafts(drafts: Sequence[Draft]) -> None:
    """Save these drafts in one statement; of ephemeral sessions, texts go to the cache instead."""
    # Most turns end before their first draft is saved, and the end stores an agent version only if it is new.
    save_agent_versions([draft.prompt.agent_version for draft in drafts if draft.prompt])
    stored_drafts = [
        replace(draft, text="", chunks=[]) if draft.turn.session.is_ephemeral else draft
        for draft in drafts
        if draft.prompt or not draft.turn.session.is_ephemeral
    ]
    if stored_drafts:
        statements.save_drafts(stored_drafts)
    for draft in drafts:
        if draft.turn.session.is_ephemeral:
            ephemeral.save_draft(draft.turn, draft.text, draft.chunks)


def save_agent_versions(versions: Sequence[AgentVersion]) -> None:
    AgentVersion.objects.bulk_create(versions, ignore_conflicts=True)


def load_draft_items(turn: Turn) -> list[ReplyItem]:
    is_ephemeral = turn.session.is_ephemeral
    return rebuild_draft_items(*(ephemeral.load_draft(turn) if is_ephemeral else (turn.draft, turn.chunks)))


def load_chunks(turn: Turn) -> list[ItemOutline]:
    return ephemeral.load_chunks(turn) if turn.session.is_ephemeral else list(turn.chunks)


def save_question(session: Session, number: int, messages: list[Any]) -> list[Any]:
    """Return a queued turn's question in the form that its row may store.

    A persistent session stores all of it. An ephemeral one stores an empty object per message, and the
    question in the cache. A session with storage `none` stores nothing.
    """
    if session.storage == Session.Storage.NONE:
        return []
    if session.is_ephemeral:
        ephemeral.save_question(session, number, messages)
        return [{} for _ in messages]
    return messages


def load_question(turn: Turn) -> list[dict[str, Any]]:
    """Return the question of a queued turn, which is not in the transcript yet."""
    if turn.input and turn.session.is_ephemeral:
        return ephemeral.load_question(turn)
    return list(turn.input)
