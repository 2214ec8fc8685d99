"""What must hold for the messages of a session."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from convo.verify.rows import Finding, MessageRow, Rows


def positions_have_no_gap(rows: Rows) -> Iterator[Finding]:
    """Every position behind the base, up to the last, has a row; none lies outside."""
    session = rows.session
    base, last = session.base_position, session.last_position
    for row in rows.messages:
        if not base < row.position <= last:
            yield row.broken(f"outside of {base + 1}–{last}")
    inside = [row.position for row in rows.messages if base < row.position <= last]
    for before, position in pairwise([base, *inside, last + 1]):
        if position > before + 1:
            yield Finding(_span(before + 1, position - 1), "no row")


def _span(first: int, last: int) -> str:
    return f"position {first}" if first == last else f"positions {first}–{last}"


def nothing_is_there_twice(rows: Rows) -> Iterator[Finding]:
    """Positions and item ids name one message each."""
    for row, after in pairwise(rows.messages):
        if row.position == after.position:
            yield row.broken("more than one row")
    for item_id, count in Counter(row.item_id for row in rows.messages).items():
        if count > 1:
            yield Finding(f"item {item_id}", f"{count} messages have this id")


def counters_agree(rows: Rows) -> Iterator[Finding]:
    """The session's counters are those of its transcript and its turns."""
    session = rows.session
    left = [turn for turn in rows.turns if turn in rows.alive or turn not in rows.by_turn]
    counted = {
        "message_count": len(rows.transcript),
        "token_count": sum(row.tokens for row in rows.transcript),
        "turn_count": len(left),
    }
    for name, count in counted.items():
        if getattr(session, name) != count:
            yield Finding(name, f"is {getattr(session, name)}, but there are {count}")
    newest = max((turn.number for turn in rows.turns.values()), default=0)
    if session.last_turn < newest:
        yield Finding("last_turn", f"is {session.last_turn}, but there is turn {newest}")


def tombstones_are_empty(rows: Rows) -> Iterator[Finding]:
    """What was deleted has left its text behind nowhere, and is not shown."""
    for row in rows.messages:
        if row.erased_at and (row.characters or row.has_item):
            yield row.broken("deleted, but its text is still there")
        if row.erased_at and row.active:
            yield row.broken("deleted, but still active")


def nothing_is_kept(rows: Rows) -> Iterator[Finding]:
    """Where nothing was to be stored, nothing is."""
    for row in rows.messages:
        yield row.broken("stored, though its session keeps nothing")
    for turn in rows.turns.values():
        if turn.ended and (turn.has_draft or turn.pieces or turn.input):
            yield turn.broken(
                "something of its reply or its question is kept, though its session keeps nothing"
            )


def calls_have_results(rows: Rows) -> Iterator[Finding]:
    """Calls and results come in pairs. Only at the very end may a call wait: its tool is still at work."""
    called: dict[str | None, MessageRow] = {}
    for row in rows.transcript:
        if row.type == "function_call":
            called[row.call_id] = row
        elif row.type == "function_call_output" and row.call_id not in called:
            yield row.broken("a tool's result without its call")
    answered = {row.call_id for row in rows.transcript if row.type == "function_call_output"}
    said = max((row.position for row in rows.transcript if row.type == "message"), default=0)
    for call_id, row in called.items():
        if call_id not in answered and row.position < said:
            yield row.broken("a tool call without its result")


def turns_are_whole(rows: Rows) -> Iterator[Finding]:
    """Every message belongs to a turn of its session, and nothing stands between a turn's messages."""
    for row in rows.messages:
        if row.turn_id not in rows.turns:
            yield row.broken("belongs to a turn of another session")
    closed: set[int] = set()
    for before, row in pairwise(rows.transcript):
        if row.turn_id != before.turn_id:
            closed.add(before.turn_id)
            if row.turn_id in closed and row.turn_id in rows.turns:
                yield row.broken(f"turn {rows.turns[row.turn_id].number} is split by other turns")
