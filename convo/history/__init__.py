"""The transcript. The database is the record; the cache keeps a hot copy of its end."""

from convo.history.branches import activate, alternatives, boundary
from convo.history.edit import delete_item, delete_message, delete_turn, pop
from convo.history.ending import begin_anew, conclude, end_from_draft, lock_free, reap
from convo.history.fork import fork
from convo.history.known import draft_of_row, item_in, known
from convo.history.lines import Draft, Line
from convo.history.read import (
    Page,
    line_of,
    line_of_draft,
    message_at,
    messages_of,
    messages_upto,
    newest,
    page,
    question_of,
    recent,
    turn_of,
)
from convo.history.replies import kept_of, pieces_of, reply_drafts
from convo.history.window import store as keep_window
from convo.history.write import append, clear, lock, remove, stale_from, take_title_back

__all__ = [
    "Draft",
    "Line",
    "Page",
    "activate",
    "alternatives",
    "append",
    "begin_anew",
    "boundary",
    "clear",
    "conclude",
    "delete_item",
    "delete_message",
    "delete_turn",
    "draft_of_row",
    "end_from_draft",
    "fork",
    "item_in",
    "keep_window",
    "kept_of",
    "known",
    "line_of",
    "line_of_draft",
    "lock",
    "lock_free",
    "message_at",
    "messages_of",
    "messages_upto",
    "newest",
    "page",
    "pieces_of",
    "pop",
    "question_of",
    "reap",
    "recent",
    "remove",
    "reply_drafts",
    "stale_from",
    "take_title_back",
    "turn_of",
]
