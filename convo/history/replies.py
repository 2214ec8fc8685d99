"""A reply's items as the messages that are stored of it."""

from collections.abc import Iterable, Sequence
from typing import Any

from convo.history import fleeting
from convo.history.lines import Draft
from convo.models import Strand, Turn, cut_draft, reply_item_id


def save_draft(turn: Turn, text: str, pieces: list[Any]) -> None:
    """Keep what a running turn has said so far."""
    if fleeting.is_fleeting(turn.session):
        fleeting.keep_draft(turn, text, pieces)
    else:
        Turn.objects.running().filter(pk=turn.pk).update(draft=text, pieces=pieces)


def draft_of(turn: Turn) -> list[Strand]:
    """What a running turn had said when that was kept last."""
    if fleeting.is_fleeting(turn.session):
        return cut_draft(*fleeting.draft_of(turn))
    return cut_draft(turn.draft, turn.pieces)


def kept_of(strands: Iterable[Strand]) -> list[Strand]:
    """What is kept of a reply that broke off: calls may lack half of their arguments and are left out."""
    return [strand for strand in strands if strand.kind != Strand.CALL and strand.text]


def pieces_of(strands: Iterable[Strand], kept: Sequence[Strand]) -> list[dict[str, Any]]:
    """How these items were cut; with the text of those that aren't kept, so that a replay tells them too."""
    indices = {strand.index for strand in kept}
    return [
        strand.saved if strand.index in indices else {**strand.saved, "lost": strand.text}
        for strand in strands
    ]


def reply_drafts(turn: Turn, strands: Sequence[Strand]) -> list[Draft]:
    """The messages that tell this reply, under the ids that its live events had."""
    return [
        _draft(strand, turn.agent, reply_item_id(turn.key, strand.index, strand.kind)) for strand in strands
    ]


def _draft(strand: Strand, agent: str, item_id: str) -> Draft:
    text, item = strand.text, {"id": item_id, **_item(strand)}
    match strand.kind:
        case Strand.CALL:
            return Draft(
                role="assistant", type=strand.kind, name=strand.name, agent=agent, item=item, item_id=item_id
            )
        case Strand.REASONING:
            # Its words are in the item alone: they are no part of what was said, and never found.
            return Draft(role="assistant", type="reasoning", agent=agent, item=item, item_id=item_id)
        case Strand.REFUSAL:
            return Draft(role="assistant", content=text, agent=agent, item=item, item_id=item_id)
    return Draft(role="assistant", content=text, agent=agent, item_id=item_id)


def _item(strand: Strand) -> dict[str, Any]:
    match strand.kind:
        case Strand.CALL:
            called = {"call_id": strand.call_id, "name": strand.name, "arguments": strand.text}
            return {"type": "function_call", **called, "status": "completed"}
        case Strand.REASONING:
            part = {"type": "reasoning_text", "text": strand.text}
            return {"type": "reasoning", "summary": [], "content": [part], "status": "completed"}
    part = {"type": "refusal", "refusal": strand.text}
    return {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
