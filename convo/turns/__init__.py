"""One turn: begin → launch → follow → finish. Start reading at claim.begin, then runner, then finish."""

from convo.turns.adopt import adopt, serve_here
from convo.turns.again import activate, again
from convo.turns.ask import ask
from convo.turns.assemble import FORMS, assemble, preview, preview_text
from convo.turns.chain import expire, go_on, new_chain, take_back
from convo.turns.claim import Claim, OnBusy, begin
from convo.turns.feedback import give as give_feedback
from convo.turns.feedback import take_back as take_feedback_back
from convo.turns.finish import Result, finish, reap
from convo.turns.follow import ending, follow, result
from convo.turns.heart import shut_down, stopping
from convo.turns.once import Done, Key, enter, prune
from convo.turns.record import record
from convo.turns.runner import TurnLog, answer, launch, run_whole
from convo.turns.sessions import check_title, new_session, stored
from convo.turns.start import Wishes
from convo.turns.stop import cancel, stop_running
from convo.turns.undo import bring_back, discard

__all__ = [
    "FORMS",
    "Claim",
    "Done",
    "Key",
    "OnBusy",
    "Result",
    "TurnLog",
    "Wishes",
    "activate",
    "adopt",
    "again",
    "answer",
    "ask",
    "assemble",
    "begin",
    "bring_back",
    "cancel",
    "check_title",
    "discard",
    "ending",
    "enter",
    "expire",
    "finish",
    "follow",
    "give_feedback",
    "go_on",
    "launch",
    "new_chain",
    "new_session",
    "preview",
    "preview_text",
    "prune",
    "reap",
    "record",
    "result",
    "run_whole",
    "serve_here",
    "shut_down",
    "stop_running",
    "stopping",
    "stored",
    "take_back",
    "take_feedback_back",
]
