"""The transcript. The database is the record; the cache keeps a hot copy of its end."""

from convo.history.branches import activate, alternatives, boundary
from convo.history.edit import delete_message, delete_turn, pop
from convo.history.ending import conclude, end_from_draft, lock_free, reap
from convo.history.fork import fork
from convo.history.lines import Draft, Line
from convo.history.read import (
    Page,
    line_of,
    line_of_draft,
    message_at,
    messages_of,
    newest,
    page,
    question_of,
    recent,
    turn_of,
)
from convo.history.window import store as keep_window
from convo.history.write import append, clear, lock, remove, stale_from

__all__ = [
    "Draft",
    "Line",
    "Page",
    "activate",
    "alternatives",
    "append",
    "boundary",
    "clear",
    "conclude",
    "delete_message",
    "delete_turn",
    "end_from_draft",
    "fork",
    "keep_window",
    "line_of",
    "line_of_draft",
    "lock",
    "lock_free",
    "message_at",
    "messages_of",
    "newest",
    "page",
    "pop",
    "question_of",
    "reap",
    "recent",
    "remove",
    "stale_from",
    "turn_of",
]
