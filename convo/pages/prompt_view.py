"""The manifest of a turn drawn to scale, for the bar under a reply and the panel that it opens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convo import context
from convo.models import Manifest, ManifestOmission, ManifestPart

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


@dataclass(frozen=True, kw_only=True)
class PromptSlice:
    """A part of the prompt as a slice of the bar, with its start and its width in percent."""

    kind: str
    name: str
    x: str
    width: str
    row: ManifestPart


@dataclass(frozen=True, kw_only=True)
class PromptView:
    """The manifest of a turn drawn to scale: `slices` fill the prompt, and `of_budget` the whole budget."""

    slices: Sequence[PromptSlice]
    of_budget: Sequence[PromptSlice]
    left_out: Sequence[ManifestOmission]
    total: int
    budget: int
    share: str
    counted_by: str


def build_prompt_view(manifest: Manifest) -> PromptView:
    total, budget = manifest["total"], manifest["budget"]
    return PromptView(
        slices=list(_slices(manifest, total)),
        of_budget=list(_slices(manifest, budget)),
        left_out=manifest["left_out"],
        total=total,
        budget=budget,
        share=f"{100 * total / budget:.1f}",
        counted_by=manifest["counted_by"],
    )


def _slices(manifest: Manifest, total: int) -> Iterator[PromptSlice]:
    for part, x, width in context.bar_segments(manifest, total):
        kind = part["part"]
        yield PromptSlice(kind=kind, name=PART_TITLES.get(kind, kind), x=x, width=width, row=part)
