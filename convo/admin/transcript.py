"""A session as staff see it: its messages on all branches, its turns in time, and how summaries changed."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from itertools import groupby

from django.db.models import Exists, OuterRef, Q

from convo.admin.read_only import describe_size
from convo.http.converters import parse_whole_number
from convo.models import Message, Session, Summary, Turn

MESSAGES, TURNS, SUMMARIES = 50, 60, 10
# Characters of a message that are shown here; the message's own page shows more.
MAX_TEXT_LENGTH = 4000
# The time to compare two texts grows with the square of their words.
MOST_WORDS = 3000
_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True, kw_only=True)
class StaffExchange:
    """A turn with its messages and their texts, and the branches that it is one of."""

    turn: Turn
    lines: Sequence[tuple[Message, str]]
    branches: Sequence[Turn]


@dataclass(frozen=True, kw_only=True)
class TimelineStep:
    """A turn in time: the seconds from its start to the first token, and to its end."""

    turn: Turn
    first_token_seconds: float | None
    total_seconds: float | None
    # Percentages of the longest turn shown. They are strings, because a localised comma would break the SVG.
    waiting_percent: str
    writing_percent: str


def transcript(session: Session, before: int, *, can_read: bool) -> tuple[list[StaffExchange], int | None]:
    """Return the last exchanges before a position, on all branches, oldest first.

    The second value is the position to continue from with `before`; None if nothing is older.
    """
    rows = Message.objects.filter(session=session, position__lt=before).select_related("turn")
    newest = list(rows.order_by("-position")[: MESSAGES + 1])
    messages = newest[:MESSAGES][::-1]
    branches = _branches(session, [row.turn for row in messages])
    exchanges = [
        StaffExchange(
            turn=turn,
            lines=[_line(row, can_read=can_read) for row in lines],
            branches=branches.get((turn.parent_id, turn.kind), []),
        )
        for turn, lines in groupby(messages, key=lambda row: row.turn)
    ]
    return exchanges, messages[0].position if len(newest) > MESSAGES else None


def build_exchange(turn: Turn, *, can_read: bool) -> StaffExchange:
    """Return one turn with its messages, at most MESSAGES of them."""
    rows = Message.objects.filter(turn=turn).order_by("position")
    return StaffExchange(
        turn=turn,
        lines=[_line(row, can_read=can_read) for row in rows[:MESSAGES]],
        branches=_branches(turn.session, [turn]).get((turn.parent_id, turn.kind), []),
    )


def _line(message: Message, *, can_read: bool) -> tuple[Message, str]:
    text = message.reply_text
    if message.type == "function_call":
        text = f"{(message.item or {}).get('name', '')}({text})"
    truncated = text if len(text) <= MAX_TEXT_LENGTH else text[:MAX_TEXT_LENGTH] + " …"
    return message, truncated if can_read else describe_size(text)


def _branches(session: Session, turns: Iterable[Turn]) -> dict[tuple[int | None, str], list[Turn]]:
    """Return the turns by (parent, kind), where several are branches of one parent, each with `is_shown`."""
    parents = {turn.parent_id for turn in turns}
    same_parent = Q(parent__in=parents - {None}) | (Q(parent=None) if None in parents else Q(pk=None))
    messages = Message.objects.filter(turn=OuterRef("pk"), erased_at=None)
    siblings = (
        Turn.objects.filter(same_parent, Exists(messages), session=session)
        # A turn is shown only if all of its messages are active, because its question can be active with
        # the reply of another turn.
        .annotate(is_shown=~Exists(messages.filter(active=False)))
        .only("number", "parent", "kind", "session")
        .order_by("number")
    )
    by_parent = defaultdict(list)
    for turn in siblings[: 10 * MESSAGES]:
        by_parent[turn.parent_id, turn.kind].append(turn)
    return {parent: branches for parent, branches in by_parent.items() if len(branches) > 1}


def timeline(session: Session, exchanges: Sequence[StaffExchange], *, newest: bool) -> list[TimelineStep]:
    """Return the turns of these exchanges, and those between them without a message, drawn to one scale."""
    turns = Turn.objects.filter(session=session)
    if exchanges:
        numbers = [exchange.turn.number for exchange in exchanges]
        turns = turns.filter(number__gte=min(numbers))
        turns = turns if newest else turns.filter(number__lte=max(numbers))
    rows = list(turns.defer("draft", "input", "chunks", "manifest", "gist").order_by("-number")[:TURNS])
    max_seconds = max((_seconds_to(turn.finished_at, turn) or 0 for turn in rows), default=0) or 1
    return [_step(turn, max_seconds) for turn in rows[::-1]]


def _seconds_to(moment: datetime | None, turn: Turn) -> float | None:
    return (moment - turn.started_at).total_seconds() if moment and turn.started_at else None


def _step(turn: Turn, max_seconds: float) -> TimelineStep:
    first_token_seconds = _seconds_to(turn.first_token_at, turn)
    total_seconds = _seconds_to(turn.finished_at, turn)
    total = total_seconds or 0
    waiting = total if first_token_seconds is None else min(first_token_seconds, total)
    return TimelineStep(
        turn=turn,
        first_token_seconds=first_token_seconds,
        total_seconds=total_seconds,
        waiting_percent=f"{100 * waiting / max_seconds:.2f}",
        writing_percent=f"{100 * (total - waiting) / max_seconds:.2f}",
    )


def summaries(session: Session, *, can_read: bool) -> list[tuple[Summary, list[tuple[str, str]]]]:
    """Return the newest summaries, each with its differences from the one that it was made from."""
    rows = Summary.objects.filter(session=session).select_related("previous").order_by("-id")[:SUMMARIES]
    return [
        (
            summary,
            list(changes(summary.previous.text if summary.previous else "", summary.text))
            if can_read
            else [("", describe_size(summary.text))],
        )
        for summary in rows
    ]


def session_context(session: Session, params: Mapping[str, str], *, can_read: bool) -> dict[str, object]:
    """Return the template context of what a session's page shows in addition to its fields."""
    end = session.last_position + 1
    position = parse_whole_number(params.get("before", ""))
    before = end if position is None else position
    exchanges, older = transcript(session, before, can_read=can_read)
    return {
        "exchanges": exchanges,
        "older": older,
        "newest": before >= end,
        "steps": timeline(session, exchanges, newest=before >= end),
        "summaries": summaries(session, can_read=can_read),
        "reads": can_read,
    }


def changes(old_text: str, new_text: str) -> Iterator[tuple[str, str]]:
    """Yield the pieces of both texts in order, each as unchanged (''), removed ('del') or inserted ('ins').

    Without an earlier text, or with one too long to compare, yield the later text as unchanged.
    """
    # Trailing white space is removed: `_WORD` would scan it to its end from every position in it.
    old_words, new_words = _WORD.findall(old_text.rstrip()), _WORD.findall(new_text.rstrip())
    if not old_text or max(len(old_words), len(new_words)) > MOST_WORDS:
        yield "", new_text
        return
    for tag, old_start, old_end, new_start, new_end in SequenceMatcher(
        None, old_words, new_words, autojunk=False
    ).get_opcodes():
        if tag == "equal":
            yield "", "".join(old_words[old_start:old_end])
            continue
        if old_end > old_start:
            yield "del", "".join(old_words[old_start:old_end])
        if new_end > new_start:
            yield "ins", "".join(new_words[new_start:new_end])
