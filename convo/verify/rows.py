"""Read what a check needs: the rows of one session in one snapshot, without their text."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from django.db import connection, transaction
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.db.models.functions import Length, Now, NullIf

from convo.history import TranscriptMessage, window
from convo.models import (
    AttachmentUse,
    Evidence,
    IdempotencyRecord,
    IndexedMessage,
    ItemOutline,
    Message,
    Session,
    Summary,
    Turn,
    TurnRequest,
)
from convo.verify import attachments


@dataclass(frozen=True)
class Finding:
    """One broken invariant: its place in the session, and the problem."""

    location: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """A message, with the lengths of its texts instead of the texts."""

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
        """Return whether an agent wrote the message: no other message has an agent's name."""
        return bool(self.agent)

    def finding(self, problem: str) -> Finding:
        return Finding(f"position {self.position}", problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRow:
    """A turn, with facts about its texts instead of the texts."""

    id: int
    number: int
    kind: str
    status: str
    parent_id: int | None
    # Another turn whose question this one answers; None if it has its own question.
    repeats_question_of: int | None
    chunks: list[ItemOutline]
    input: list[object]
    lease_until: datetime | None
    created_at: datetime
    has_draft: bool
    now: datetime

    @property
    def has_ended(self) -> bool:
        return self.status not in {Turn.Status.QUEUED, Turn.Status.RUNNING}

    @property
    def overdue(self) -> timedelta:
        return self.now - self.lease_until if self.lease_until else timedelta(0)

    def finding(self, problem: str) -> Finding:
        return Finding(f"turn {self.number}", problem)


@dataclass(frozen=True, kw_only=True)
class SessionRows:
    """One session with everything that belongs to it."""

    session: Session
    turns: dict[int, TurnRow]
    messages: list[MessageRow]
    summaries: list[Summary]
    # Evidence that cites a tombstone, or is for a memory about another person.
    evidence: list[Evidence]
    # The problems with the attachments of its messages.
    attachment_findings: list[Finding]
    # The places in the database that hold text of the session, if it is ephemeral.
    ephemeral_texts: list[str]
    # The cached hot window of this version of the transcript, and the window that it should be.
    hot_windows: tuple[list[TranscriptMessage], list[TranscriptMessage]] | None

    @cached_property
    def messages_by_turn(self) -> dict[int, list[MessageRow]]:
        """The messages of each turn, tombstones included. A turn without messages has no entry."""
        return _group_by_turn(self.messages)

    @cached_property
    def live_messages_by_turn(self) -> dict[int, list[MessageRow]]:
        return _group_by_turn([row for row in self.messages if not row.erased_at])

    @cached_property
    def transcript(self) -> list[MessageRow]:
        return [row for row in self.messages if row.active and not row.erased_at]

    @cached_property
    def transcript_by_turn(self) -> dict[int, list[MessageRow]]:
        return _group_by_turn(self.transcript)


def _group_by_turn(messages: list[MessageRow]) -> dict[int, list[MessageRow]]:
    rows_by_turn: dict[int, list[MessageRow]] = {}
    for row in messages:
        rows_by_turn.setdefault(row.turn_id, []).append(row)
    return rows_by_turn


@contextmanager
def snapshot() -> Iterator[None]:
    """Give all reads of a block one snapshot of the database, without blocking writers."""
    is_outermost = not connection.in_atomic_block
    with transaction.atomic():
        if is_outermost and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def read(session_id: UUID) -> SessionRows | None:
    with snapshot():
        session = Session.objects.select_related("person").filter(pk=session_id).first()
        return None if session is None else _read_rows(session)


def _read_rows(session: Session) -> SessionRows:
    cached_window = window.load(session.pk, session.version)
    is_wrong_evidence = Q(message__erased_at__isnull=False) | ~Q(memory__person=session.person_id)
    return SessionRows(
        session=session,
        turns={turn.id: turn for turn in _turns(session)},
        messages=list(_messages(session)),
        summaries=list(Summary.objects.filter(session=session).defer("text").order_by("to_position", "id")),
        evidence=list(
            Evidence.objects.filter(is_wrong_evidence, message__session=session).select_related(
                "memory", "message"
            )
        ),
        attachment_findings=[Finding(*problem) for problem in attachments.find_problems(session)],
        ephemeral_texts=list(stored_texts(session)) if session.is_ephemeral else [],
        hot_windows=None if cached_window is None else (cached_window, _expected_window(session)),
    )


def _turns(session: Session) -> Iterator[TurnRow]:
    columns = ("id", "number", "kind", "status", "parent_id", "chunks", "input", "lease_until", "created_at")
    has_draft = ExpressionWrapper(~Q(draft=""), output_field=BooleanField())
    turns = Turn.objects.filter(session=session).order_by("number", "id")
    repeats_question_of = NullIf("question_turn_id", "id")
    rows = turns.values(*columns, repeats_question_of=repeats_question_of, has_draft=has_draft, now=Now())
    return (TurnRow(**row) for row in rows.iterator())


def _messages(session: Session) -> Iterator[MessageRow]:
    columns = ("position", "turn_id", "item_id", "type", "role", "agent", "tokens", "active", "erased_at")
    has_item = ExpressionWrapper(Q(item__isnull=False), output_field=BooleanField())
    messages = Message.objects.filter(session=session, thread="").order_by("position", "id")
    rows = messages.values(
        *columns,
        call_id=KeyTransform("call_id", "item"),
        characters=Length("content"),
        argument_characters=Length(KeyTextTransform("arguments", "item")),
        has_item=has_item,
    )
    return (MessageRow(**row) for row in rows.iterator())


def _expected_window(session: Session) -> list[TranscriptMessage]:
    rows = Message.objects.transcript(session).select_related("turn").reverse()[: window.MAX_MESSAGES]
    return [TranscriptMessage.of(row, from_model_turn=row.turn.kind == Turn.Kind.REPLY) for row in rows][::-1]


def stored_texts(session: Session) -> Iterator[str]:
    """Yield the places in the database that hold text of this session, or may hold it."""
    if session.title:
        yield "the title"
    messages = Message.objects.filter(session=session)
    for position in messages.filter(~Q(content="") | ~Q(name="")).values_list("position", flat=True):
        yield f"position {position}"
    for position, item in messages.exclude(item=None).values_list("position", "item"):
        if item and item.keys() != {"call_id"}:
            yield f"position {position}"
    turns = Turn.objects.filter(session=session)
    turns_with_text = turns.filter(~Q(draft="") | ~Q(gist="") | ~Q(chunks=[]))
    for number in turns_with_text.values_list("number", flat=True):
        yield f"turn {number}"
    for number, question in turns.exclude(input=[]).values_list("number", "input"):
        if any(question):
            yield f"turn {number}"
    for name, rows in (
        ("a summary", Summary.objects.filter(session=session)),
        ("the index", IndexedMessage.objects.filter(session=session)),
        ("an attachment", AttachmentUse.objects.filter(message__session=session)),
        ("a memory", Evidence.objects.filter(message__session=session)),
        ("a request", TurnRequest.objects.filter(turn__session=session)),
    ):
        if rows.exists():
            yield name
    responses = IdempotencyRecord.objects.filter(turn__session=session, body__isnull=False)
    if not all(map(_is_position_list, responses.values_list("body", flat=True))):
        yield "the response stored under an idempotency key"


def _is_position_list(body: object) -> bool:
    positions = json.loads(str(body))
    return isinstance(positions, list) and all(isinstance(position, int) for position in positions)
