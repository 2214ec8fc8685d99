"""Read and change transcripts. The database is the record; the cache holds a copy of the newest messages."""

from convo.history import ephemeral, files, tool_pairs, turn_contents, window
from convo.history.append import append
from convo.history.branches import activate, alternatives, branch_point
from convo.history.clear import clear, remove, remove_if, restore_cleared, set_aside
from convo.history.edit import delete_item, delete_message, delete_turn
from convo.history.fork import fork
from convo.history.locks import lock_idle
from convo.history.messages import NewMessage, TranscriptMessage
from convo.history.read import (
    MessagePage,
    edited_question,
    find_session,
    get_item,
    get_turn,
    items_by_id,
    look_up_newest,
    message_at,
    messages_of,
    messages_upto,
    page,
    question_of,
    recent_messages,
    with_inline_data,
)
from convo.history.session_row import lock, reset_title
from convo.history.statements import BranchPoint, LockedSession
from convo.history.turn_end import (
    TurnEnding,
    end_or_requeue,
    end_turn,
    end_turn_from_draft,
    insert_ended_turn,
    requeue,
    set_ending,
)
