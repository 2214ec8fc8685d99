"""What was used: turns, tokens, times and failures by day, agent and model. Days begin at midnight UTC."""

from convo.usage.read import of_everybody, of_owner, of_person
from convo.usage.settle import LONGEST, settle, today
from convo.usage.values import Figures, Spread, Usage

__all__ = [
    "LONGEST",
    "Figures",
    "Spread",
    "Usage",
    "of_everybody",
    "of_owner",
    "of_person",
    "settle",
    "today",
]
