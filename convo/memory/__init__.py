"""Thinking afterwards: summaries of what was said, and what is known about the person who said it."""

from convo.memory.compact import compact
from convo.memory.edit import LONGEST_TEXT, change, remember
from convo.memory.facts import doubt
from convo.memory.forget import forget, forget_all, forget_matching
from convo.memory.hints import hint
from convo.memory.join import take_over
from convo.memory.known import known
from convo.memory.learn import learn, unlearned
from convo.memory.merge import merge
from convo.memory.origins import evidence, evidence_of, history, replaced
from convo.memory.rules import LONGEST_RULE, add_rule, drop_rule, set_rules
from convo.memory.screen import KIND, text_key
from convo.memory.summarise import summarise, want_summary

__all__ = [
    "KIND",
    "LONGEST_RULE",
    "LONGEST_TEXT",
    "add_rule",
    "change",
    "compact",
    "doubt",
    "drop_rule",
    "evidence",
    "evidence_of",
    "forget",
    "forget_all",
    "forget_matching",
    "hint",
    "history",
    "known",
    "learn",
    "merge",
    "remember",
    "replaced",
    "set_rules",
    "summarise",
    "take_over",
    "text_key",
    "unlearned",
    "want_summary",
]
