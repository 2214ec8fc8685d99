"""Prompts: gather their sources, choose what fits the budget, and explain the choice in a manifest."""

from convo.context.choose import caller_prompt, check_fits, choose
from convo.context.gather import gather, refused_image_turns
from convo.context.parts import Prompt, PromptPart, Sources
from convo.context.replay import replay
from convo.context.scale import BarSegment, bar_segments
from convo.context.texts import HEADING_TOKENS, for_planning, single_query

__all__ = [
    "HEADING_TOKENS",
    "BarSegment",
    "Prompt",
    "PromptPart",
    "Sources",
    "bar_segments",
    "caller_prompt",
    "check_fits",
    "choose",
    "for_planning",
    "gather",
    "refused_image_turns",
    "replay",
    "single_query",
]
