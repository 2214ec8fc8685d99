"""The items of a reply while it is streamed, and as they are rebuilt from a draft or for a replay."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from convo.models.messages import prefix_of
from convo.models.turns import ItemOutline


@dataclass
class ReplyItem:
    """One item of a reply in chunks: text, a refusal, reasoning, or a call with its arguments."""

    kind: str
    call_id: str = ""
    name: str = ""
    chunks: list[str] = field(default_factory=list)
    index: int = 0  # its index among all items of the reply, including those that are not stored

    MESSAGE, REFUSAL, REASONING, CALL = "message", "refusal", "reasoning", "function_call"

    @property
    def text(self) -> str:
        return "".join(self.chunks)

    @property
    def is_usable_in_part(self) -> bool:
        """True for text, which is stored as far as it goes. A call may lack a part of its arguments."""
        return self.kind != ReplyItem.CALL and bool(self.text)

    def outline(self) -> ItemOutline:
        lengths = list(map(len, self.chunks))
        outline: ItemOutline = {"index": self.index, "kind": self.kind, "chunk_lengths": lengths}
        if self.kind == ReplyItem.CALL:
            outline |= {"call_id": self.call_id, "name": self.name}
        return outline


def rebuild_items(texts: Iterable[str], outlines: Sequence[ItemOutline]) -> list[ReplyItem]:
    """Rebuild the items with these texts, in the chunks in which they were streamed."""
    return [
        ReplyItem(
            kind=outline["kind"],
            call_id=outline.get("call_id", ""),
            name=outline.get("name", ""),
            chunks=_split(text, outline["chunk_lengths"]),
            index=outline["index"],
        )
        for text, outline in zip(texts, outlines, strict=False)
    ]


def rebuild_draft_items(draft: str, outlines: Sequence[ItemOutline]) -> list[ReplyItem]:
    """Rebuild the items of a draft, which holds the texts of all items one after the other."""
    return rebuild_items(_split(draft, [sum(outline["chunk_lengths"]) for outline in outlines]), outlines)


def reply_item_id(key: UUID, index: int, kind: str) -> str:
    """Return the id of a reply's item: the same in its live events, in every replay, and in its row."""
    return f"{prefix_of(kind)}_{key.hex}{index:016x}"


def _split(text: str, lengths: Iterable[int]) -> list[str]:
    chunks, start = [], 0
    for length in lengths:
        chunks.append(text[start : start + length])
        start += length
    return chunks
