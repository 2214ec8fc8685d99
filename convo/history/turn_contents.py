"""A turn's contents other than its messages: a queued question, a reply's draft and its chunk lengths.

Those of an ephemeral session are in the cache alone.
"""

from typing import Any

from convo.history import ephemeral
from convo.models import ItemOutline, ReplyItem, Session, Turn, rebuild_draft_items


def save_draft(turn: Turn, text: str, chunks: list[ItemOutline]) -> None:
    if turn.session.is_ephemeral:
        ephemeral.save_draft(turn, text, chunks)
    else:
        Turn.objects.running().filter(pk=turn.pk).update(draft=text, chunks=chunks)


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
