"""What a check looks at: the rows of one session at one moment, without their text."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.db.models.functions import Length, Now, NullIf

from convo.history import Line, is_fleeting, line_of, window
from convo.models import Evidence, Message, Session, Summary, Turn
from convo.verify import shown
from convo.verify.shown import Shown
from convo.verify.words import words_kept


@dataclass(frozen=True)
class Finding:
    """One broken invariant: where in the session, and what is wrong there."""

    where: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """A message, with the lengths of its texts in their place."""

    position: int
    turn_id: int
    item_id: str
    type: str
    role: str
    agent: str
    tokens: int
    active: bool
    erased_at: datetime | None
    call_id: str | None
    characters: int
    argument_characters: int | None
    has_item: bool

    @property
    def is_reply(self) -> bool:
        """Did a model of ours say it? An agent's name is on those messages only."""
        return bool(self.agent)

    @property
    def where(self) -> str:
        return f"position {self.position}"

    def broken(self, what: str) -> Finding:
        return Finding(self.where, what)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRow:
    """A turn, with the facts about its texts in their place."""

    id: int
    number: int
    kind: str
    status: str
    parent_id: int | None
    asks_other: int | None  # another turn, whose question this one answers; None for a question of its own
    pieces: list[dict[str, Any]]
    input: list[Any]
    lease_until: datetime | None
    created_at: datetime
    has_draft: bool
    now: datetime

    @property
    def ended(self) -> bool:
        return self.status not in {Turn.Status.QUEUED, Turn.Status.RUNNING}

    @property
    def overdue(self) -> timedelta:
        """How long ago its lease ran out."""
        return self.now - self.lease_until if self.lease_until else timedelta(0)

    def broken(self, what: str) -> Finding:
        return Finding(f"turn {self.number}", what)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One session with all that hangs on it."""

    session: Session
    turns: dict[int, TurnRow]
    messages: list[MessageRow]
    summaries: list[Summary]
    # Evidence that rests on a tombstone or on another person's words.
    evidence: list[Evidence]
    # The images and files that its messages show.
    files: Shown
    # Where the tables tell what is said in a temporary chat.
    words: list[str]
    # The hot window kept for this version of the transcript, and what it should be.
    hot: tuple[list[Line], list[Line]] | None

    @cached_property
    def by_turn(self) -> dict[int, list[MessageRow]]:
        """The messages of each turn that has any, tombstones included."""
        return _grouped(self.messages)

    @cached_property
    def alive(self) -> dict[int, list[MessageRow]]:
        """The messages of each turn that has any left."""
        return _grouped([row for row in self.messages if not row.erased_at])

    @cached_property
    def transcript(self) -> list[MessageRow]:
        return [row for row in self.messages if row.active and not row.erased_at]

    @cached_property
    def shown(self) -> dict[int, list[MessageRow]]:
        """The turns of the transcript, in its order, with their messages in it."""
        return _grouped(self.transcript)


def _grouped(messages: list[MessageRow]) -> dict[int, list[MessageRow]]:
    found: dict[int, list[MessageRow]] = {}
    for row in messages:
        found.setdefault(row.turn_id, []).append(row)
    return found


@contextmanager
def one_moment() -> Iterator[None]:
    """Let all reads within see the database as it was at the first; no writer waits for them."""
    begins = not connection.in_atomic_block
    with transaction.atomic():
        if begins and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def read(session_id: UUID) -> Rows | None:
    """The session as it is at this moment; None when it is gone."""
    with one_moment():
        session = Session.objects.select_related("person").filter(pk=session_id).first()
        return None if session is None else _rows(session)


def _rows(session: Session) -> Rows:
    kept = window.load(session.pk, session.version)
    not_theirs = Q(message__erased_at__isnull=False) | ~Q(memory__person=session.person_id)
    return Rows(
        session=session,
        turns={row["id"]: TurnRow(**row) for row in _turns(session)},
        messages=[MessageRow(**row) for row in _messages(session)],
        summaries=list(Summary.objects.filter(session=session).defer("text").order_by("to_position", "id")),
        evidence=list(
            Evidence.objects.filter(not_theirs, message__session=session).select_related("memory", "message")
        ),
        files=shown.read(session),
        words=list(words_kept(session)) if is_fleeting(session) else [],
        hot=None if kept is None else (kept, _newest(session)),
    )


def _turns(session: Session) -> Iterator[dict[str, Any]]:
    plain = ("id", "number", "kind", "status", "parent_id", "pieces", "input", "lease_until", "created_at")
    has_draft = ExpressionWrapper(~Q(draft=""), output_field=BooleanField())
    turns = Turn.objects.filter(session=session).order_by("number", "id")
    asks_other = NullIf("asks_id", "id")
    yield from turns.values(*plain, asks_other=asks_other, has_draft=has_draft, now=Now()).iterator()


def _messages(session: Session) -> Iterator[dict[str, Any]]:
    plain = ("position", "turn_id", "item_id", "type", "role", "agent", "tokens", "active", "erased_at")
    has_item = ExpressionWrapper(Q(item__isnull=False), output_field=BooleanField())
    messages = Message.objects.filter(session=session, thread="").order_by("position", "id")
    yield from messages.values(
        *plain,
        call_id=KeyTransform("call_id", "item"),
        characters=Length("content"),
        argument_characters=Length(KeyTextTransform("arguments", "item")),
        has_item=has_item,
    ).iterator()


def _newest(session: Session) -> list[Line]:
    rows = Message.objects.transcript(session).select_related("turn").reverse()[: window.LENGTH]
    return [line_of(row, asked=row.turn.kind == Turn.Kind.REPLY) for row in rows][::-1]
