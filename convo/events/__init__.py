"""The live events of a running turn: written in one process, followed in any."""

from convo.events.follow import ENDED_ELSEWHERE, log_of, register
from convo.events.log import Delta, Log, LogReader, delta_of
from convo.events.mirror import mirror

__all__ = ["ENDED_ELSEWHERE", "Delta", "Log", "LogReader", "delta_of", "log_of", "mirror", "register"]
