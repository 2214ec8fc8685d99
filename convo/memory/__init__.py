"""Thinking afterwards: summaries of what was said, and what is known about the person who said it."""

from convo.memory.compact import compact
from convo.memory.edit import LONGEST_TEXT, change, evidence, history, remember, set_rules
from convo.memory.forget import forget, forget_all, forget_matching
from convo.memory.hints import hint
from convo.memory.known import known
from convo.memory.learn import learn
from convo.memory.screen import text_key
from convo.memory.summarise import summarise

__all__ = [
    "LONGEST_TEXT",
    "change",
    "compact",
    "evidence",
    "forget",
    "forget_all",
    "forget_matching",
    "hint",
    "history",
    "known",
    "learn",
    "remember",
    "set_rules",
    "summarise",
    "text_key",
]
