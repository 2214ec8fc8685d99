"""Reading the transcript: the newest lines for a prompt, pages for a person."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from convo.errors import NotFound
from convo.history import fleeting, window
from convo.history.lines import Draft, Line
from convo.models import Message, Session, Turn


@dataclass(frozen=True)
class Page:
    """Some messages in the order asked for, and whether there are more on either side."""

    messages: list[Message]
    older: bool
    newer: bool


def line_of(message: Message, *, asked: bool) -> Line:
    return Line(
        position=message.position,
        turn=message.turn_id,
        type=message.type,
        role=message.role,
        name=message.name,
        agent=message.agent,
        content=message.content,
        item=message.item,
        tokens=message.tokens,
        asked=asked,
    )


def line_of_draft(draft: Draft, position: int) -> Line:
    """The line that this draft would be: for a prompt that is only looked at."""
    return Line(
        position=position,
        turn=0,
        type=draft.type,
        role=draft.role,
        name=draft.name,
        agent=draft.agent,
        content=draft.content,
        item=draft.item,
        tokens=draft.tokens,
        asked=True,
    )


def newest(session_id: UUID, version: tuple[int, int], *, upto: int | None = None) -> list[Line]:
    """The newest lines from the hot window, or from the database, which fills the window again.

    With `upto`, those that end at an earlier position: a branch is about to begin there.
    """
    return look_up(session_id, version, upto=upto)[0]


def look_up(
    session_id: UUID, version: tuple[int, int], *, upto: int | None = None
) -> tuple[list[Line], bool | None]:
    """The newest lines, and whether the hot window had them; None where it was not to have any."""
    if upto is not None and upto < version[1]:
        return _read(session_id, before=upto + 1), None
    lines = window.load(session_id, version)
    hot = lines is not None
    if lines is None:
        rows = _rows(session_id, before=version[1] + 1)
        is_apart = any(map(fleeting.is_bare, rows))
        lines = _lines(rows)
        # What lies in the cache anyway is not put there twice.
        if not is_apart:
            window.store(session_id, version, lines)
    return lines, hot if lines else None


def recent(
    session_id: UUID, newest: list[Line], *, pairs: int | None, budget: int, model: str, after: int = 0
) -> list[Line]:
    """The newest lines, oldest first, back to as many questions as asked for, or as far as the budget holds.

    None comes from `after` or before. A little more than fits may come back, never less; what it costs
    doesn't grow with the transcript.
    """
    kept: list[Line] = []
    questions = spent = 0
    for line in _backwards(session_id, newest):
        if line.position <= after or (pairs is not None and questions >= pairs) or spent > budget:
            break
        # A question that nobody answered doesn't count: the prompt may leave it out.
        questions += line.role == Message.Role.USER and bool(kept) and kept[-1].role != Message.Role.USER
        kept.append(line)
        spent += line.cost(model)
    return kept[::-1]


def _backwards(session_id: UUID, newest: list[Line]) -> Iterator[Line]:
    lines = newest
    while lines:
        yield from reversed(lines)
        if len(lines) < window.LENGTH:
            return
        lines = _read(session_id, before=lines[0].position)


def _read(session_id: UUID, *, before: int) -> list[Line]:
    return _lines(_rows(session_id, before=before))


def _lines(rows: list[Message]) -> list[Line]:
    return [line_of(row, asked=row.turn.kind == Turn.Kind.REPLY) for row in fleeting.fill(rows)]


def _rows(session_id: UUID, *, before: int) -> list[Message]:
    rows = (
        Message.objects.filter(
            session=session_id, thread="", active=True, erased_at=None, position__lt=before
        )
        .select_related("turn")
        .only(
            "session_id",
            "position",
            "turn_id",
            "item_id",
            "type",
            "role",
            "name",
            "agent",
            "content",
            "item",
            "tokens",
            "turn__kind",
        )
        .order_by("-position")[: window.LENGTH]
    )
    return list(rows)[::-1]


def page(
    session: Session, *, after: int | None = None, before: int | None = None, newest_first: bool, size: int
) -> Page:
    """The messages next to a position (or to the beginning of the order asked for), in that order."""
    transcript = Message.objects.filter(session=session, active=True, erased_at=None).order_by("position")
    rows = transcript.select_related("turn")
    if after is not None:
        rows = rows.filter(position__gt=after)
    if before is not None:
        rows = rows.filter(position__lt=before)
    # Next to `after` lie the oldest of these, next to `before` the newest.
    from_the_end = newest_first if (after is None) == (before is None) else before is not None
    found = sorted(rows.reverse()[:size] if from_the_end else rows[:size], key=lambda row: row.position)
    fleeting.fill(found)
    return Page(
        found[::-1] if newest_first else found,
        older=bool(found) and transcript.filter(position__lt=found[0].position).exists(),
        newer=bool(found) and transcript.filter(position__gt=found[-1].position).exists(),
    )


def message_at(session: Session, position: int) -> Message:
    """The message at this position of the transcript."""
    found = Message.objects.filter(session=session, position=position, active=True, erased_at=None)
    message = found.select_related("turn").first()
    if message is None:
        raise NotFound(f"This session has no message at position {position}.")
    return fleeting.fill([message])[0]


def messages_of(turn: Turn) -> list[Message]:
    """The messages of one turn: its question, then its reply."""
    return fleeting.fill(Message.objects.filter(turn=turn, erased_at=None).order_by("position"))


def turn_of(session: Session, number: int) -> Turn:
    """The session's turn of this number."""
    rows = Turn.objects.filter(session=session, number=number)
    found = rows.select_related("parent", "asks", "feedback").first()
    if found is None:
        raise NotFound(f"This session has no turn {number}.")
    found.session = session
    return found


def messages_upto(session: Session, position: int) -> list[Message]:
    """All that the session shows up to a position."""
    return fleeting.fill(Message.objects.transcript(session).filter(position__lte=position))


def question_of(turn: Turn) -> list[Line]:
    """What this turn asked, without the reply."""
    return [line_of(row, asked=True) for row in question_rows(turn)]


def question_rows(turn: Turn) -> list[Message]:
    """The messages of its question: an agent's name is on those only that it wrote."""
    return fleeting.fill(Message.objects.filter(turn=turn, agent="", erased_at=None).order_by("position"))
