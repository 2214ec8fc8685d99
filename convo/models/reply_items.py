"""The items of a reply while it is streamed, and as they are rebuilt from a draft or for a replay."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from convo.models.messages import prefix_of
from convo.models.turns import Chunk


@dataclass
class ReplyItem:
    """One item of a reply in chunks: text, a refusal, reasoning, or a call with its arguments."""

    kind: str
    call_id: str = ""
    name: str = ""
    parts: list[str] = field(default_factory=list)
    index: int = 0  # its index among all items of the reply, including those that are not stored

    MESSAGE, REFUSAL, REASONING, CALL = "message", "refusal", "reasoning", "function_call"

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def is_usable_in_part(self) -> bool:
        """True for text, which is stored as far as it goes. A call may lack a part of its arguments."""
        return self.kind != ReplyItem.CALL and bool(self.text)

    def to_json(self) -> Chunk:
        """Everything but the text, in the form that `Turn.chunks` holds for each item."""
        chunk: Chunk = {"index": self.index, "kind": self.kind, "chunk_lengths": list(map(len, self.parts))}
        return {**chunk, "call_id": self.call_id, "name": self.name} if self.kind == ReplyItem.CALL else chunk


def rebuild_items(texts: Iterable[str], items_json: Sequence[Chunk]) -> list[ReplyItem]:
    """Rebuild the items with these texts, in the chunks in which they were streamed."""
    return [
        ReplyItem(
            kind=item["kind"],
            call_id=item.get("call_id", ""),
            name=item.get("name", ""),
            parts=_chunks(text, item["chunk_lengths"]),
            index=item["index"],
        )
        for text, item in zip(texts, items_json, strict=False)
    ]


def rebuild_draft_items(draft: str, items_json: Sequence[Chunk]) -> list[ReplyItem]:
    """Rebuild the items of a draft, which holds the texts of all items one after the other."""
    return rebuild_items(_chunks(draft, [sum(item["chunk_lengths"]) for item in items_json]), items_json)


def reply_item_id(key: UUID, index: int, kind: str) -> str:
    """Return the id of a reply's item: the same in its live events, in every replay, and in its row."""
    return f"{prefix_of(kind)}_{key.hex}{index:016x}"


def _chunks(text: str, lengths: Iterable[int]) -> list[str]:
    chunks, start = [], 0
    for length in lengths:
        chunks.append(text[start : start + length])
        start += length
    return chunks
