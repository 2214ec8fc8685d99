"""Draw a prompt to scale: each part of its manifest as a piece of a bar."""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from convo.models import Manifest, ManifestPart


class BarSegment(NamedTuple):
    """A part of the prompt as a piece of the bar, with its start and its width in percent."""

    part: ManifestPart
    x: str
    width: str


def bar_segments(manifest: Manifest, total_tokens: int) -> Iterator[BarSegment]:
    """Yield the prompt's parts in order, then the reply's overhead, as pieces of a bar of `total_tokens`."""
    overhead = manifest["reply_overhead"]
    opening: ManifestPart = {"part": "format", "why": "the opening of the reply", "tokens": overhead}
    parts = [*manifest["parts"], opening]
    starts = accumulate((part["tokens"] for part in parts), initial=0)
    for start, part in zip(starts, parts, strict=False):
        yield BarSegment(
            part, f"{100 * start / total_tokens:.2f}", f"{100 * part['tokens'] / total_tokens:.2f}"
        )
