"""The manifest of a turn drawn to scale, for the bar under a reply and the panel that it opens."""

from collections.abc import Sequence
from typing import NamedTuple

from convo import context
from convo.models import Manifest, ManifestPart

PART_TITLES = {
    "instructions": "Instructions",
    "pinned": "Pinned memories",
    "summary": "Summary",
    "verbatim": "Earlier messages",
    "recalled": "Recalled",
    "facts": "Memories",
    "question": "Question",
    "format": "Format",
}


class PromptSlice(NamedTuple):
    """A part of the prompt as a slice of the bar, with its start and its width in percent."""

    name: str
    x: str
    width: str
    row: ManifestPart


class PromptView(NamedTuple):
    """The manifest of a turn drawn to scale: `slices` fill the prompt, and `of_budget` the whole budget."""

    manifest: Manifest
    slices: Sequence[PromptSlice]
    of_budget: Sequence[PromptSlice]
    share: str


def build_prompt_view(manifest: Manifest) -> PromptView:
    total, budget = manifest["total"], manifest["budget"]
    return PromptView(
        manifest, _slices(manifest, total), _slices(manifest, budget), share=f"{100 * total / budget:.1f}"
    )


def _slices(manifest: Manifest, total: int) -> list[PromptSlice]:
    return [
        PromptSlice(PART_TITLES.get(part["part"], part["part"]), x, width, part)
        for part, x, width in context.bar_segments(manifest, total)
    ]
