"""What the database knows of replies: the drafts of running ones, the cuts of ended ones."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from convo import history
from convo.events.log import Delta, delta_of
from convo.models import Message, Strand, Turn, cut


@dataclass(frozen=True)
class Saved:
    """A reply as far as it has been saved, cut where its live stream was cut."""

    deltas: list[Delta]
    ended: bool


def saved(keys: Iterable[UUID]) -> dict[UUID, Saved]:
    """The replies of these turns as the rows have them; a turn whose row is gone has ended."""
    keys = list(keys)
    turns = Turn.objects.filter(key__in=keys).select_related("session")
    turns = turns.only("key", "status", "number", "draft", "pieces", "session__storage")
    found = {turn.key: turn for turn in turns}
    written = _written([turn for turn in found.values() if turn.ended])
    return {key: _saved(found.get(key), written) for key in keys}


def _saved(turn: Turn | None, written: dict[int, list[str]]) -> Saved:
    if turn is None:
        return Saved([], ended=True)
    if not turn.ended:
        return Saved(deltas_of(history.draft_of(turn)), ended=False)
    pieces = history.cuts_of(turn)
    return Saved(deltas_of(cut(_texts(pieces, written[turn.pk]), pieces)), ended=True)


def _texts(pieces: Sequence[Mapping[str, Any]], written: Iterable[str]) -> Iterator[str]:
    """The text of each item: of one that wasn't kept, as it was streamed; of the others, as it is stored."""
    rows = iter(written)
    for piece in pieces:
        text = piece["lost"] if "lost" in piece else next(rows, None)
        if text is None:
            # What was deleted is told no more, and nothing that came after it.
            return
        yield text


def _written(turns: list[Turn]) -> dict[int, list[str]]:
    """The texts of the items of each of these turns' replies, in their order."""
    found: dict[int, list[str]] = defaultdict(list)
    if turns:
        rows = Message.objects.filter(turn__in=turns, erased_at=None).exclude(agent="")
        # Told in short before the model spoke: no piece of what it said.
        rows = rows.exclude(type="compaction")
        # What was deleted is gone from the replay too, and with one item gone the cuts fit no more.
        fields = ("session_id", "turn_id", "position", "item_id", "type", "name", "content", "item")
        for row in history.fill(rows.order_by("position").only(*fields), lost_too=True):
            found[row.turn_id].append(row.reply_text)
    return found


def deltas_of(strands: Sequence[Strand]) -> list[Delta]:
    """The pieces of these items as a log has them."""
    return [delta_of(strand, at) for strand in strands for at in range(len(strand.parts))]
