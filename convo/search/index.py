"""Keeping the index level with the transcripts: the turns say which of them are not in it yet."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from convo import database, jobs
from convo.history import files_of
from convo.models import (
    IndexedMemory,
    IndexedMessage,
    Message,
    Session,
    Turn,
    UserMemory,
    place_of,
    wide_place,
)
from convo.search import embed
from convo.search.dates import days_of
from convo.search.embed import Vectors, model_name, packed, without
from convo.search.words import told_and_asked, words

logger = logging.getLogger(__name__)

ROLES = (Message.Role.USER, Message.Role.ASSISTANT, Message.Role.TOOL)
# A transaction writes so many messages at a time: a reply that is to be saved waits for no longer.
AT_A_TIME = 200
# A message of any length is stored; what can be found of it is what its first so many characters say.
READ = 20_000
ANEW = ("words", "asked", "days", "place", "wide", "position", "vector", "model", "dim")


def index_turns(limit: int = 500) -> int:
    """Index the turns that ended and are not in the index, so many at most; answers how many."""
    ended = Turn.objects.exclude(status__in=[Turn.Status.QUEUED, Turn.Status.RUNNING])
    turns = list(ended.filter(indexed_at=None).order_by("pk").values_list("pk", flat=True)[:limit])
    return index_these(turns) if turns else 0


def index_these(turns: Sequence[int]) -> int:
    """Index these turns; those whose session changes meanwhile stay as they are, for the next time."""
    return written(made(turns))


@dataclass(frozen=True, kw_only=True)
class Made:
    """What is to be written of some turns, and of which state of their sessions it was made."""

    turns: Sequence[int]
    sessions: Mapping[UUID, Session]
    rows: Sequence[IndexedMessage]


def made(turns: Sequence[int]) -> Made:
    """Read these turns, and make of them what the index is to hold; no transaction is open meanwhile."""
    sessions = _sessions(turns)
    rows = _rows(turns, sessions)
    vectors = embed.embed([without([row.name], _text(row)) for row in rows]) if rows else None
    indexed = [_indexed(row, sessions[row.session_id], at, vectors) for at, row in enumerate(rows)]
    return Made(turns=turns, sessions=sessions, rows=indexed)


def written(new: Made) -> int:
    """Write it, a few sessions at a time; answers how many turns are in the index now."""
    return sum(_write(part, new) for part in _parts(new))


def index_vectors(limit: int = 500) -> int:
    """Give their vectors to the messages and memories that were indexed while no model could be reached."""
    rows = IndexedMessage.objects.filter(vector=None).order_by("pk")
    return fill(rows, limit) or fill_memories(IndexedMemory.objects.filter(vector=None).order_by("pk"), limit)


def fill(rows: QuerySet[IndexedMessage], limit: int) -> int:
    """Make the vectors of the first of these messages anew; 0 when there are none, or no model for it."""
    found = list(rows.select_related("message")[:limit])
    texts = [without([row.message.name], _text(row.message)) for row in found]
    vectors = embed.embed(texts) if found else None
    if vectors is None:
        return 0
    for row, vector in zip(found, vectors, strict=True):
        row.vector, row.model, row.dim = packed(vector), model_name(), len(vector)
    # Only rows that are still there: what was deleted meanwhile is not brought back.
    return IndexedMessage.objects.bulk_update(found, ["vector", "model", "dim"], batch_size=AT_A_TIME)


def fill_memories(rows: QuerySet[IndexedMemory], limit: int) -> int:
    """The same for memories."""
    found = list(rows.select_related("memory")[:limit])
    vectors = embed.embed([row.memory.text for row in found]) if found else None
    if vectors is None:
        return 0
    for row, vector in zip(found, vectors, strict=True):
        row.vector, row.model, row.dim = packed(vector), model_name(), len(vector)
    return IndexedMemory.objects.bulk_update(found, ["vector", "model", "dim"], batch_size=AT_A_TIME)


def index_memories(limit: int = 500) -> int:
    """Index the active memories that are not in the index as they read now; answers how many."""
    IndexedMemory.objects.exclude(memory__status=UserMemory.Status.ACTIVE).delete()
    IndexedMemory.objects.exclude(text_key=F("memory__text_key")).delete()
    waiting = UserMemory.objects.filter(status=UserMemory.Status.ACTIVE, indexed=None).order_by("pk")
    found = list(waiting[:limit])
    if not found:
        return 0
    vectors = embed.embed([memory.text for memory in found])
    with transaction.atomic():
        # One that was forgotten meanwhile is not to be known again.
        there = set(
            UserMemory.objects.select_for_update()
            .filter(pk__in=[memory.pk for memory in found], status=UserMemory.Status.ACTIVE)
            .values_list("pk", "text_key")
        )
        IndexedMemory.objects.bulk_create(
            [
                IndexedMemory(
                    memory=memory,
                    person_id=memory.person_id,
                    text_key=memory.text_key,
                    words=" ".join(words(memory.text)),
                    **_stored(vectors, at),
                )
                for at, memory in enumerate(found)
                if (memory.pk, memory.text_key) in there
            ],
            ignore_conflicts=True,
        )
    return len(there)


def _sessions(turns: Sequence[int]) -> dict[UUID, Session]:
    found = Session.objects.filter(turns__in=turns).distinct().select_related("person", "owner")
    return {session.pk: session for session in found}


def _rows(turns: Sequence[int], sessions: dict[UUID, Session]) -> list[Message]:
    """What of these turns may be found: what people, models and tools said, where it may be stored at all."""
    places = [session.pk for session in sessions.values() if _searched(session)]
    rows = Message.objects.filter(
        turn__in=turns, session__in=places, thread="", erased_at=None, recallable=True, role__in=ROLES
    )
    return list(rows.exclude(content="", attached=None).order_by("session", "position"))


def _text(row: Message) -> str:
    """By what a message is found: its words, and the names of its files."""
    names = [file.name for file in files_of(row)]
    return "\n".join([row.content[:READ], *names])


def _searched(session: Session) -> bool:
    return session.kind == Session.Kind.CONVERSATION and session.storage == Session.Storage.KEPT


def _indexed(row: Message, session: Session, at: int, vectors: Vectors | None) -> IndexedMessage:
    text, said = _text(row), row.created_at.date()
    # Two people ask each other, and the answer explains the question; whoever asks a model explains himself.
    told, asked = told_and_asked(text) if row.name else (words(text), [])
    return IndexedMessage(
        message=row,
        owner_id=session.owner_id,
        person_id=session.person_id,
        session=session,
        position=row.position,
        place=place_of(session.person, session),
        wide=wide_place(session.owner_id),
        words=" ".join(told),
        asked=" ".join(asked),
        days=" ".join(days_of(text, said)),
        **_stored(vectors, at),
    )


def _stored(vectors: Vectors | None, at: int) -> dict[str, object]:
    if vectors is None:
        return {}
    return {"vector": packed(vectors[at]), "model": model_name(), "dim": vectors.shape[1]}


def _parts(new: Made) -> list[list[UUID]]:
    """The sessions in parts that are written together: each part has few messages, or a single session."""
    counts = Counter(row.session_id for row in new.rows)
    parts: list[list[UUID]] = [[]]
    size = 0
    # In the order of their keys, so that two that write at once don't wait for each other.
    for session in sorted(new.sessions):
        if parts[-1] and size + counts[session] > AT_A_TIME:
            parts.append([])
            size = 0
        parts[-1].append(session)
        size += counts[session]
    return [part for part in parts if part]


@database.retried
@transaction.atomic
def _write(part: Sequence[UUID], new: Made) -> int:
    """Write what was made of these sessions, but nothing of one whose transcript has changed since."""
    locked = Session.objects.select_for_update().filter(pk__in=part).order_by("pk")
    steady = {session.pk for session in locked if session.version == new.sessions[session.pk].version}
    rows = [row for row in new.rows if row.session_id in steady]
    IndexedMessage.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["message"], update_fields=ANEW, batch_size=AT_A_TIME
    )
    return Turn.objects.filter(pk__in=new.turns, session__in=steady).update(indexed_at=Now())


jobs.swept(index_turns)
jobs.swept(index_memories)
jobs.swept(index_vectors)
