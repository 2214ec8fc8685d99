"""The life of a turn: begin, launch, follow, finish. Read `claim.begin`, then `runner`, then `finish`."""

from convo.turns.ask import ask
from convo.turns.assemble import FORMS, assemble, preview, preview_text
from convo.turns.branches import activate, regenerate
from convo.turns.chain import continue_from, delete_expired_sessions, delete_response, new_chain
from convo.turns.claim import Claim, OnBusy, begin, begin_unstored
from convo.turns.feedback import delete_feedback, save_feedback
from convo.turns.finish import TurnResult, end_expired_turns, finish
from convo.turns.follow import follow, result_of, wait_for_ending
from convo.turns.idempotency import AlreadyProcessed, IdempotencyKey, delete_expired_keys, reserve
from convo.turns.leases import is_shutting_down, shut_down
from convo.turns.prepare import TurnOptions
from convo.turns.record import record
from convo.turns.recovery import recover_orphans, register_server_loop
from convo.turns.runner import Outcome, TurnLog, answer, launch, start, start_from_thread
from convo.turns.sessions import check_title, new_session, store_session
from convo.turns.stop import cancel, stop_running
from convo.turns.undo import clear, discard, restore

__all__ = [
    "FORMS",
    "AlreadyProcessed",
    "Claim",
    "IdempotencyKey",
    "OnBusy",
    "Outcome",
    "TurnLog",
    "TurnOptions",
    "TurnResult",
    "activate",
    "answer",
    "ask",
    "assemble",
    "begin",
    "begin_unstored",
    "cancel",
    "check_title",
    "clear",
    "continue_from",
    "delete_expired_keys",
    "delete_expired_sessions",
    "delete_feedback",
    "delete_response",
    "discard",
    "end_expired_turns",
    "finish",
    "follow",
    "is_shutting_down",
    "launch",
    "new_chain",
    "new_session",
    "preview",
    "preview_text",
    "record",
    "recover_orphans",
    "regenerate",
    "register_server_loop",
    "reserve",
    "restore",
    "result_of",
    "save_feedback",
    "shut_down",
    "start",
    "start_from_thread",
    "stop_running",
    "store_session",
    "wait_for_ending",
]
