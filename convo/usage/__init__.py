"""Usage: turns, tokens, durations and failures by day, agent and model. Days begin at midnight UTC."""

from convo.usage.figures import Figures, Percentiles, UsageReport
from convo.usage.read import MAX_DAYS, of_everybody, of_owner, of_person, settle, today

__all__ = [
    "MAX_DAYS",
    "Figures",
    "Percentiles",
    "UsageReport",
    "of_everybody",
    "of_owner",
    "of_person",
    "settle",
    "today",
]
