"""What the database knows of replies: the drafts of running ones, the cuts of ended ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from convo.models import Message, Turn


@dataclass(frozen=True)
class Saved:
    """A reply as far as it has been saved, cut where its live stream was cut."""

    deltas: list[str]
    ended: bool


def saved(keys: Iterable[UUID]) -> dict[UUID, Saved]:
    """The replies of these turns as the rows have them; a turn whose row is gone has ended."""
    keys = list(keys)
    turns = Turn.objects.filter(key__in=keys).only("key", "status", "draft", "pieces")
    found = {turn.key: turn for turn in turns}
    written = _written([turn for turn in found.values() if turn.ended])
    return {key: _saved(found.get(key), written) for key in keys}


def _saved(turn: Turn | None, written: dict[int, str]) -> Saved:
    if turn is None:
        return Saved([], ended=True)
    text = written.get(turn.pk, "") if turn.ended else turn.draft
    return Saved(_cut(text, turn.pieces[0] if turn.pieces else []), ended=turn.ended)


def _written(turns: list[Turn]) -> dict[int, str]:
    """The text of each of these turns' replies."""
    rows = Message.objects.filter(turn__in=turns, type="message", role="assistant").exclude(agent="")
    # A reply has one; should it have more, the first is what was streamed.
    return dict(rows.order_by("-position").values_list("turn_id", "content")) if turns else {}


def _cut(text: str, lengths: list[int]) -> list[str]:
    deltas, start = [], 0
    # Where an ended reply has no text left (it was deleted, or only calls were made) there is nothing to cut.
    for length in lengths if text else []:
        deltas.append(text[start : start + length])
        start += length
    return deltas
