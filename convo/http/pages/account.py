"""What the model saw in a turn, drawn to scale: the line under a reply, and the panel behind it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convo import context

PARTS = {
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
class Slice:
    """A part of the prompt as a piece of the bar: where it begins and how wide it is, in percent."""

    kind: str
    name: str
    x: str
    width: str
    row: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Account:
    """The manifest of a turn, drawn to scale: the bar is the prompt, or with `of_budget` all that fits."""

    slices: Sequence[Slice]
    of_budget: Sequence[Slice]
    left_out: Sequence[Mapping[str, Any]]
    total: int
    budget: int
    share: str
    counted_by: str


def account(manifest: Mapping[str, Any]) -> Account:
    """The account of this manifest, which may hold the words of its sources or not."""
    total, budget = manifest["total"], manifest["budget"]
    return Account(
        slices=list(_slices(manifest, total)),
        of_budget=list(_slices(manifest, budget)),
        left_out=manifest["left_out"],
        total=total,
        budget=budget,
        share=f"{100 * total / budget:.1f}",
        counted_by=manifest["counted_by"],
    )


def _slices(manifest: Mapping[str, Any], whole: int) -> Iterator[Slice]:
    for part, x, width in context.to_scale(manifest, whole):
        kind = part["part"]
        yield Slice(kind=kind, name=PARTS.get(kind, kind), x=x, width=width, row=part)
