"""What the model sees: gathered, chosen within the budget, and explained."""

from convo.context.choose import as_given, check_fits, choose
from convo.context.gather import gather, refused
from convo.context.parts import Material, Part, Prompt
from convo.context.replay import replay
from convo.context.scale import Piece, to_scale
from convo.context.texts import HEADINGS, for_planning, single_query

__all__ = [
    "HEADINGS",
    "Material",
    "Part",
    "Piece",
    "Prompt",
    "as_given",
    "check_fits",
    "choose",
    "for_planning",
    "gather",
    "refused",
    "replay",
    "single_query",
    "to_scale",
]
