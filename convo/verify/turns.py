"""What must hold for the turns of a session: how they stand, and how they hang together."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

from convo.conf import conf
from convo.models import Strand, Turn
from convo.verify.rows import Finding, MessageRow, Rows, TurnRow


def at_most_one_runs(rows: Rows) -> Iterator[Finding]:
    running = [turn for turn in rows.turns.values() if turn.status == Turn.Status.RUNNING]
    for turn in running[1:]:
        yield turn.broken(f"running, while turn {running[0].number} is")


def leases_are_kept(rows: Rows) -> Iterator[Finding]:
    """A turn that has not ended has a lease, renewed or soon swept; one that has ended has none."""
    patience = timedelta(seconds=conf().lease_seconds + conf().sweep_seconds)
    for turn in rows.turns.values():
        if turn.ended and turn.lease_until:
            yield turn.broken(f"{turn.status}, but has a lease")
        elif not turn.ended and not turn.lease_until:
            yield turn.broken(f"{turn.status} without a lease")
        elif not turn.ended and turn.overdue > patience:
            yield turn.broken(
                f"{turn.status}, but its lease ran out {turn.overdue.total_seconds():.0f} s ago"
            )


def drafts_are_gone(rows: Rows) -> Iterator[Finding]:
    for turn in rows.turns.values():
        if turn.ended and turn.has_draft:
            yield turn.broken(f"{turn.status}, but its draft is still there")


def turns_have_questions(rows: Rows) -> Iterator[Finding]:
    """A turn asks: in messages of its own, in another turn's, or in the input that it waits with."""
    for turn in rows.turns.values():
        asked = rows.by_turn.get(turn.asks_other or turn.id, [])
        if turn.kind == Turn.Kind.RECORDED:
            if not asked:
                yield turn.broken("recorded, but without a message")
        elif not turn.input and all(row.is_reply for row in asked):
            yield turn.broken(f"{turn.status} without its question")


def complete_turns_have_replies(rows: Rows) -> Iterator[Finding]:
    """What was streamed to its end was written down, to the letter."""
    for turn in rows.turns.values():
        replied = [row for row in rows.by_turn.get(turn.id, []) if row.is_reply and row.type != "compaction"]
        pieces = [piece for piece in turn.pieces if "lost" not in piece]
        if not turn.ended or not pieces:
            continue
        if not replied:
            # A fork may end at a question, or take it from a turn whose answer is another turn's.
            if turn.created_at >= rows.session.created_at:
                yield turn.broken(f"{turn.status}, but its reply is not there")
        elif [_written(piece) for piece in pieces] != [_length(row) for row in replied]:
            yield turn.broken("its pieces do not add up to its reply")


def _written(piece: Mapping[str, Any]) -> int:
    """The length of an item as it was streamed; that of reasoning isn't looked up in its row."""
    return 0 if piece["kind"] == Strand.REASONING else sum(piece["cuts"])


def _length(row: MessageRow) -> int:
    return row.characters if row.type == "message" else row.argument_characters or 0


def turns_continue_earlier_ones(rows: Rows) -> Iterator[Finding]:
    """Parents and questions are earlier turns of the same session."""
    for turn in rows.turns.values():
        for tie, other_id in (("continues", turn.parent_id), ("asks again", turn.asks_other)):
            other = rows.turns.get(other_id or 0)
            if other_id and other is None:
                yield turn.broken(f"{tie} a turn of another session")
            if other and other.number >= turn.number:
                yield turn.broken(f"{tie} turn {other.number}, which is later")


def the_transcript_is_one_branch(rows: Rows) -> Iterator[Finding]:
    """Each turn that is shown continues the one shown before it."""
    shown = [rows.turns[id] for id in rows.shown if id in rows.turns]
    for before, turn in pairwise([None, *shown]):
        assert turn  # only the first is none
        expected = _continued(rows, turn)
        if expected != before:
            there = f"turn {before.number} is" if before else "nothing is"
            should = f"continues turn {expected.number}" if expected else "continues nothing"
            yield turn.broken(f"{should}, but {there} shown before it")


def _continued(rows: Rows, turn: TurnRow) -> TurnRow | None:
    """The nearest turn before this one of which anything is left."""
    found = _before(rows, turn)
    while found and found.id not in rows.alive:
        found = _before(rows, found)
    return found


def _before(rows: Rows, turn: TurnRow) -> TurnRow | None:
    """The turn whose question this one answers again; else the one that it continues."""
    found = rows.turns.get((turn.asks_other if turn.asks_other in rows.alive else turn.parent_id) or 0)
    return found if found and found.number < turn.number else None


def replies_stand_behind_their_question(rows: Rows) -> Iterator[Finding]:
    """A reply is shown with its question, and a question with one reply."""
    for id, messages in rows.shown.items():
        turn = rows.turns.get(id)
        if turn is None or turn.kind == Turn.Kind.RECORDED or not any(row.is_reply for row in messages):
            continue
        question = [row for row in rows.alive.get(turn.asks_other or id, []) if not row.is_reply]
        if not all(row.active for row in question):
            yield turn.broken("its reply is shown, but not its question")
        if any(row.is_reply for row in rows.shown.get(turn.asks_other or 0, [])):
            yield turn.broken("its reply is shown beside another to the same question")
