"""A reply's items while they grow: what is saved of a running turn, and what a replay is cut from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from convo.models.messages import prefix_of


@dataclass
class Strand:
    """One item of a reply: words, a refusal, reasoning, or a call with its arguments, piece by piece."""

    kind: str
    call_id: str = ""
    name: str = ""
    parts: list[str] = field(default_factory=list)
    index: int = 0  # its place among all items of the reply, those that are not kept included

    MESSAGE, REFUSAL, REASONING, CALL = "message", "refusal", "reasoning", "function_call"

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def saved(self) -> dict[str, Any]:
        """All of it but its text: `Turn.pieces` has one of these an item."""
        called = {"call_id": self.call_id, "name": self.name} if self.kind == Strand.CALL else {}
        return {
            "index": self.index,
            "kind": self.kind,
            **called,
            "cuts": [len(part) for part in self.parts],
        }


def cut(texts: Iterable[str], pieces: Sequence[Mapping[str, Any]]) -> list[Strand]:
    """The strands of these texts, one an item, cut where they were cut when they were written."""
    return [
        Strand(
            kind=piece["kind"],
            call_id=piece.get("call_id", ""),
            name=piece.get("name", ""),
            parts=_parts(text, piece["cuts"]),
            index=piece["index"],
        )
        for text, piece in zip(texts, pieces, strict=False)
    ]


def cut_draft(draft: str, pieces: Sequence[Mapping[str, Any]]) -> list[Strand]:
    """The strands of a draft, which holds the texts of all items one after the other."""
    return cut(_parts(draft, [sum(piece["cuts"]) for piece in pieces]), pieces)


def reply_item_id(key: UUID, index: int, kind: str) -> str:
    """The id of a reply's item: the same in its live events, in every replay, and in its row."""
    return f"{prefix_of(kind)}_{key.hex}{index:016x}"


def _parts(text: str, lengths: Iterable[int]) -> list[str]:
    parts, start = [], 0
    for length in lengths:
        parts.append(text[start : start + length])
        start += length
    return parts
