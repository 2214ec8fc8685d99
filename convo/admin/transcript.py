"""A conversation as staff see it: what was said, on which branch, how long it took, and its summaries."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db.models import Exists, OuterRef, Q

from convo.admin.diff import changes
from convo.admin.reading import size_of
from convo.models import Message, Session, Summary, Turn

MESSAGES, TURNS, SUMMARIES = 50, 60, 10
# Of one message so much is shown here; its own page has more.
LONGEST = 4000


@dataclass(frozen=True, kw_only=True)
class Line:
    """A message: its words, or how many there are for who may not read them."""

    row: Message
    text: str
    hidden: bool


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A turn with its messages, and the turns that could stand in its place."""

    turn: Turn
    lines: Sequence[Line]
    beside: Sequence[Turn]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A turn in time: how long it waited for its first token, and how long that went on; in seconds."""

    turn: Turn
    first: float | None
    whole: float | None
    # Of the longest one here, in percent; strings, for a number's comma would break the drawing.
    waited: str = "0"
    wrote: str = "0"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A summary, and what it says that the one before did not."""

    row: Summary
    pieces: Sequence[tuple[str, str]]
    hidden: str


def transcript(session: Session, before: int, *, reads: bool) -> tuple[list[Exchange], int | None]:
    """What was said before a position, on whatever branch, oldest first; and where what is older ends."""
    rows = Message.objects.filter(session=session, position__lt=before).select_related("turn")
    found = list(rows.order_by("-position")[: MESSAGES + 1])
    shown = found[:MESSAGES][::-1]
    beside = _alternatives(session, [row.turn for row in shown])
    exchanges = [
        Exchange(
            turn=turn,
            lines=[_line(row, reads=reads) for row in lines],
            beside=beside.get((turn.parent_id, turn.kind), []),
        )
        for turn, lines in groupby(shown, key=lambda row: row.turn)
    ]
    return exchanges, shown[0].position if len(found) > MESSAGES else None


def exchange_of(turn: Turn, *, reads: bool) -> Exchange:
    """One turn with all of its messages."""
    rows = Message.objects.filter(turn=turn).order_by("position")
    return Exchange(
        turn=turn,
        lines=[_line(row, reads=reads) for row in rows[:MESSAGES]],
        beside=_alternatives(turn.session, [turn]).get((turn.parent_id, turn.kind), []),
    )


def _line(row: Message, *, reads: bool) -> Line:
    text = row.reply_text
    if row.type == "function_call":
        text = f"{(row.item or {}).get('name', '')}({text})"
    short = text if len(text) <= LONGEST else text[:LONGEST] + " …"
    return Line(row=row, text=short if reads else size_of(text), hidden=not reads)


def _alternatives(session: Session, turns: Iterable[Turn]) -> dict[tuple[int | None, str], list[Turn]]:
    """The turns with one parent, where there are several, each `shown` or not."""
    parents = {turn.parent_id for turn in turns}
    beside = Q(parent__in=parents - {None}) | (Q(parent=None) if None in parents else Q(pk=None))
    said = Message.objects.filter(turn=OuterRef("pk"), erased_at=None)
    found = (
        Turn.objects.filter(beside, Exists(said), session=session)
        # A question may be shown with another turn's reply.
        .annotate(shown=~Exists(said.filter(active=False)))
        .only("number", "parent", "kind", "session")
        .order_by("number")
    )
    by_parent = defaultdict(list)
    for turn in found[: 10 * MESSAGES]:
        by_parent[turn.parent_id, turn.kind].append(turn)
    return {parent: several for parent, several in by_parent.items() if len(several) > 1}


def timeline(session: Session, exchanges: Sequence[Exchange], *, newest: bool) -> list[Step]:
    """The turns of these exchanges and those between them that left no message, drawn to one scale."""
    turns = Turn.objects.filter(session=session)
    if exchanges:
        numbers = [exchange.turn.number for exchange in exchanges]
        turns = turns.filter(number__gte=min(numbers))
        turns = turns if newest else turns.filter(number__lte=max(numbers))
    rows = turns.defer("draft", "input", "pieces", "manifest", "gist").order_by("-number")[:TURNS]
    steps = [_step(turn) for turn in rows][::-1]
    longest = max((step.whole or 0 for step in steps), default=0) or 1
    return [_drawn(step, longest) for step in steps]


def _step(turn: Turn) -> Step:
    def since_start(moment: datetime | None) -> float | None:
        return (moment - turn.started_at).total_seconds() if moment and turn.started_at else None

    return Step(turn=turn, first=since_start(turn.first_token_at), whole=since_start(turn.finished_at))


def _drawn(step: Step, longest: float) -> Step:
    whole = step.whole or 0
    first = whole if step.first is None else min(step.first, whole)
    return replace(
        step, waited=f"{100 * first / longest:.2f}", wrote=f"{100 * (whole - first) / longest:.2f}"
    )


def summaries(session: Session, *, reads: bool) -> list[Version]:
    """The newest summaries, each with what has changed since the one that it was made from."""
    rows = Summary.objects.filter(session=session).select_related("previous").order_by("-id")[:SUMMARIES]
    return [
        Version(
            row=row,
            pieces=list(changes(row.previous.text if row.previous else "", row.text)) if reads else [],
            hidden="" if reads else size_of(row.text),
        )
        for row in rows
    ]


def place(request_says: str, otherwise: int) -> int:
    """The position that an address names; any other text counts as none."""
    known = request_says.isascii() and request_says.isdecimal() and len(request_says) <= 15
    return int(request_says) if known else otherwise


def page_of(session: Session, asked: Any, *, reads: bool) -> dict[str, Any]:
    """All that a session's page shows beside its fields."""
    end = session.last_position + 1
    before = place(asked.get("before", ""), end)
    exchanges, older = transcript(session, before, reads=reads)
    return {
        "exchanges": exchanges,
        "older": older,
        "newest": before >= end,
        "steps": timeline(session, exchanges, newest=before >= end),
        "summaries": summaries(session, reads=reads),
        "reads": reads,
    }
