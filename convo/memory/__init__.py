"""Summaries of conversations, and memories: facts about people that are learned from what they say."""

from convo.memory.edit import MAX_TEXT_LENGTH, change, remember
from convo.memory.facts import review_reason
from convo.memory.forget import forget, forget_all, forget_matching
from convo.memory.learn import has_unlearned_turns, learn, schedule
from convo.memory.merge import merge
from convo.memory.people import merge_people
from convo.memory.provenance import evidence, evidence_by_memory, predecessors, versions
from convo.memory.rules import MAX_RULE_LENGTH, add_rule, remove_rule, set_rules
from convo.memory.screen import KIND_PREFIX, text_key
from convo.memory.summarise import compact, request_summary, summarise
