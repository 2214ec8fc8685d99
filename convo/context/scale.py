"""A prompt drawn to scale: the parts of its account, each with its place in a bar."""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple


class Piece(NamedTuple):
    """A part of the prompt as a piece of the bar: where it begins and how wide it is, in percent."""

    part: Mapping[str, Any]
    x: str
    width: str


def to_scale(manifest: Mapping[str, Any], whole: int) -> Iterator[Piece]:
    """The parts in the order of the prompt, and what opens the reply, in a bar of so many tokens."""
    opening = {"part": "format", "why": "what opens the reply", "tokens": manifest["reply_overhead"]}
    parts = [*manifest["parts"], opening]
    starts = accumulate((part["tokens"] for part in parts), initial=0)
    for start, part in zip(starts, parts, strict=False):
        yield Piece(part, f"{100 * start / whole:.2f}", f"{100 * part['tokens'] / whole:.2f}")
