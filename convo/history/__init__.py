"""The transcript. The database is the record; the cache keeps a hot copy of its end."""

from convo.history.attachments import MOST_FILES, Upload, files_of, inlined, show_twin, with_files
from convo.history.branches import activate, alternatives, alternatives_of, boundary
from convo.history.contents import TEXT, File, alike, check, decoded, marks, parts_of, readable, weighed
from convo.history.edit import delete_item, delete_message, delete_turn, pop
from convo.history.ending import begin_anew, conclude, end_from_draft, lock_free, reap
from convo.history.fleeting import (
    cuts_of,
    drafts_aside,
    drafts_of,
    fill,
    is_fleeting,
    is_lost,
    tidy,
)
from convo.history.fork import fork
from convo.history.images import IMAGE_TYPES
from convo.history.known import draft_of_row, item_in, known
from convo.history.lines import Draft, Line
from convo.history.read import (
    Page,
    line_of,
    line_of_draft,
    look_up,
    message_at,
    messages_of,
    messages_upto,
    newest,
    page,
    question_of,
    question_rows,
    recent,
    turn_of,
)
from convo.history.replies import draft_of, kept_of, pieces_of, reply_drafts, save_draft
from convo.history.reworded import reworded
from convo.history.window import store as keep_window
from convo.history.write import append, clear, lock, remove, remove_if, stale_from, take_title_back

__all__ = [
    "IMAGE_TYPES",
    "MOST_FILES",
    "TEXT",
    "Draft",
    "File",
    "Line",
    "Page",
    "Upload",
    "activate",
    "alike",
    "alternatives",
    "alternatives_of",
    "append",
    "begin_anew",
    "boundary",
    "check",
    "clear",
    "conclude",
    "cuts_of",
    "decoded",
    "delete_item",
    "delete_message",
    "delete_turn",
    "draft_of",
    "draft_of_row",
    "drafts_aside",
    "drafts_of",
    "end_from_draft",
    "files_of",
    "fill",
    "fork",
    "inlined",
    "is_fleeting",
    "is_lost",
    "item_in",
    "keep_window",
    "kept_of",
    "known",
    "line_of",
    "line_of_draft",
    "lock",
    "lock_free",
    "look_up",
    "marks",
    "message_at",
    "messages_of",
    "messages_upto",
    "newest",
    "page",
    "parts_of",
    "pieces_of",
    "pop",
    "question_of",
    "question_rows",
    "readable",
    "reap",
    "recent",
    "remove",
    "remove_if",
    "reply_drafts",
    "reworded",
    "save_draft",
    "show_twin",
    "stale_from",
    "take_title_back",
    "tidy",
    "turn_of",
    "weighed",
    "with_files",
]
