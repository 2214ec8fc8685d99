"""The invariants of a session's turns: their state, and how they follow one another."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

from convo.conf import conf
from convo.models import ItemOutline, ReplyItem, Turn
from convo.verify.rows import Finding, MessageRow, SessionRows, TurnRow


def at_most_one_turn_runs(rows: SessionRows) -> Iterator[Finding]:
    running = [turn for turn in rows.turns.values() if turn.status == Turn.Status.RUNNING]
    for turn in running[1:]:
        yield turn.finding(f"running at the same time as turn {running[0].number}")


def leases_match_status(rows: SessionRows) -> Iterator[Finding]:
    """Only a turn that has not ended has a lease, and an expired lease is soon noticed by a sweep."""
    grace_period = timedelta(seconds=conf().lease_seconds + conf().sweep_seconds)
    for turn in rows.turns.values():
        if turn.has_ended and turn.lease_until:
            yield turn.finding(f"{turn.status}, but has a lease")
        elif not turn.has_ended and not turn.lease_until:
            yield turn.finding(f"{turn.status} without a lease")
        elif not turn.has_ended and turn.overdue > grace_period:
            yield turn.finding(
                f"{turn.status}, but its lease ran out {turn.overdue.total_seconds():.0f} s ago"
            )


def ended_turns_have_no_draft(rows: SessionRows) -> Iterator[Finding]:
    for turn in rows.turns.values():
        if turn.has_ended and turn.has_draft:
            yield turn.finding(f"{turn.status}, but its draft is still there")


def turns_have_questions(rows: SessionRows) -> Iterator[Finding]:
    """A turn has a question: in its own messages, in another turn's, or in the input of a queued turn."""
    for turn in rows.turns.values():
        question = rows.messages_by_turn.get(turn.repeats_question_of or turn.id, [])
        if turn.kind == Turn.Kind.RECORDED:
            if not question:
                yield turn.finding("recorded, but without a message")
        elif not turn.input and all(row.is_reply for row in question):
            yield turn.finding(f"{turn.status} without its question")


def complete_turns_have_replies(rows: SessionRows) -> Iterator[Finding]:
    """The reply that a turn streamed is stored, and is as long as what was streamed."""
    for turn in rows.turns.values():
        stored_rows = rows.messages_by_turn.get(turn.id, [])
        reply_rows = [row for row in stored_rows if row.is_reply and row.type != "compaction"]
        outlines = [outline for outline in turn.chunks if "lost" not in outline]
        if not turn.has_ended or not outlines:
            continue
        if not reply_rows:
            # A turn older than its session was copied by a fork. The fork may end at its question, or contain
            # another turn's reply to the question instead.
            if turn.created_at >= rows.session.created_at:
                yield turn.finding(f"{turn.status}, but its reply is missing")
        elif list(map(_streamed_length, outlines)) != list(map(_stored_length, reply_rows)):
            yield turn.finding("its chunks do not add up to its reply")


def _streamed_length(outline: ItemOutline) -> int:
    # The length of reasoning isn't compared: `_stored_length` counts it as 0, too.
    return 0 if outline["kind"] == ReplyItem.REASONING else sum(outline["chunk_lengths"])


def _stored_length(row: MessageRow) -> int:
    return row.characters if row.type == "message" else row.argument_characters or 0


def turns_continue_earlier_ones(rows: SessionRows) -> Iterator[Finding]:
    """The parent of a turn, and the turn whose question it answers, are earlier turns of its session."""
    for turn in rows.turns.values():
        for relation, other_id in (
            ("continues", turn.parent_id),
            ("repeats the question of", turn.repeats_question_of),
        ):
            other = rows.turns.get(other_id or 0)
            if other_id and other is None:
                yield turn.finding(f"{relation} a turn of another session")
            if other and other.number >= turn.number:
                yield turn.finding(f"{relation} turn {other.number}, which is later")


def the_transcript_is_one_branch(rows: SessionRows) -> Iterator[Finding]:
    """Each turn of the transcript continues the one before it."""
    transcript_turns = [rows.turns[turn_id] for turn_id in rows.transcript_by_turn if turn_id in rows.turns]
    for previous, turn in pairwise([None, *transcript_turns]):
        assert turn  # only the first is None
        expected = _expected_predecessor(rows, turn)
        if expected != previous:
            actual_text = f"turn {previous.number} is" if previous else "nothing is"
            expected_text = f"continues turn {expected.number}" if expected else "continues nothing"
            yield turn.finding(f"{expected_text}, but {actual_text} shown before it")


def _expected_predecessor(rows: SessionRows, turn: TurnRow) -> TurnRow | None:
    """Return the nearest turn that this one continues and that still has messages."""
    predecessor = _question_or_parent(rows, turn)
    while predecessor and predecessor.id not in rows.live_messages_by_turn:
        predecessor = _question_or_parent(rows, predecessor)
    return predecessor


def _question_or_parent(rows: SessionRows, turn: TurnRow) -> TurnRow | None:
    """Return the turn whose question this one answers again, or else its parent."""
    is_repeat = turn.repeats_question_of in rows.live_messages_by_turn
    predecessor = rows.turns.get((turn.repeats_question_of if is_repeat else turn.parent_id) or 0)
    return predecessor if predecessor and predecessor.number < turn.number else None


def replies_are_shown_with_their_question(rows: SessionRows) -> Iterator[Finding]:
    """A reply in the transcript has its question there, and a question has one reply there."""
    for turn_id, messages in rows.transcript_by_turn.items():
        turn = rows.turns.get(turn_id)
        if turn is None or turn.kind == Turn.Kind.RECORDED or not any(row.is_reply for row in messages):
            continue
        question_rows = rows.live_messages_by_turn.get(turn.repeats_question_of or turn_id, [])
        if not all(row.active for row in question_rows if not row.is_reply):
            yield turn.finding("its reply is shown, but not its question")
        if any(row.is_reply for row in rows.transcript_by_turn.get(turn.repeats_question_of or 0, [])):
            yield turn.finding("its reply and another one to the same question are both shown")
