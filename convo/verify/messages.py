"""The invariants of a session's messages."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from convo.history.tool_pairs import CALL, RESULT, pair
from convo.verify.rows import Finding, SessionRows


def positions_have_no_gap(rows: SessionRows) -> Iterator[Finding]:
    """Every position after the base, up to the last one, has a row, and no row has another position."""
    session = rows.session
    base, last = session.base_position, session.last_position
    for row in rows.messages:
        if not base < row.position <= last:
            yield row.finding(f"outside of {base + 1}–{last}")
    positions = [row.position for row in rows.messages if base < row.position <= last]
    for previous, position in pairwise([base, *positions, last + 1]):
        if position > previous + 1:
            yield Finding(_position_range(previous + 1, position - 1), "no row")


def _position_range(first: int, last: int) -> str:
    return f"position {first}" if first == last else f"positions {first}–{last}"


def positions_and_ids_are_unique(rows: SessionRows) -> Iterator[Finding]:
    """Each position and each item id belongs to one message."""
    for row, next_row in pairwise(rows.messages):
        if row.position == next_row.position:
            yield row.finding("more than one row")
    for item_id, count in Counter(row.item_id for row in rows.messages).items():
        if count > 1:
            yield Finding(f"item {item_id}", f"{count} messages have this id")


def counters_agree(rows: SessionRows) -> Iterator[Finding]:
    session = rows.session
    live, stored = rows.live_messages_by_turn, rows.messages_by_turn
    counts = {
        "message_count": len(rows.transcript),
        "token_count": sum(row.tokens for row in rows.transcript),
        "turn_count": sum(turn in live or turn not in stored for turn in rows.turns),
    }
    for counter, count in counts.items():
        if getattr(session, counter) != count:
            yield Finding(counter, f"is {getattr(session, counter)}, but there are {count}")
    newest = max((turn.number for turn in rows.turns.values()), default=0)
    if session.last_turn < newest:
        yield Finding("last_turn", f"is {session.last_turn}, but there is turn {newest}")


def tombstones_are_empty(rows: SessionRows) -> Iterator[Finding]:
    for row in rows.messages:
        if row.erased_at and (row.characters or row.has_item):
            yield row.finding("deleted, but its text is still there")
        if row.erased_at and row.active:
            yield row.finding("deleted, but still active")


def nothing_is_stored(rows: SessionRows) -> Iterator[Finding]:
    """A session that stores nothing has no messages, and no text in its ended turns."""
    for row in rows.messages:
        yield row.finding("stored, though its session stores nothing")
    for turn in rows.turns.values():
        if turn.has_ended and (turn.has_draft or turn.chunks or turn.input):
            yield turn.finding("its question or its reply is stored, though its session stores nothing")


def calls_have_results(rows: SessionRows) -> Iterator[Finding]:
    """Calls and results come in pairs. Only a call at the very end may lack its result, if its tool runs."""
    unpaired_positions = pair((row.position, row) for row in rows.transcript).orphans
    last_message = max((row.position for row in rows.transcript if row.type == "message"), default=0)
    for row in rows.transcript:
        if row.position in unpaired_positions and row.type == RESULT:
            yield row.finding("a tool's result without its call")
        elif row.position in unpaired_positions and row.type == CALL and row.position < last_message:
            yield row.finding("a tool call without its result")


def turns_are_contiguous(rows: SessionRows) -> Iterator[Finding]:
    """Every message belongs to a turn of its session, and no other turn splits a turn's messages."""
    for row in rows.messages:
        if row.turn_id not in rows.turns:
            yield row.finding("belongs to a turn of another session")
    closed_turns: set[int] = set()
    for previous, row in pairwise(rows.transcript):
        if row.turn_id != previous.turn_id:
            closed_turns.add(previous.turn_id)
            if row.turn_id in closed_turns and row.turn_id in rows.turns:
                yield row.finding(f"turn {rows.turns[row.turn_id].number} is split by other turns")
