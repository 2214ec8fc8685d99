"""Keep the search index up to date. A turn without `indexed_at` still has to be indexed."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from convo import database, jobs
from convo.history.files import files_of
from convo.models import (
    IndexedMemory,
    IndexedMessage,
    Message,
    Session,
    Turn,
    UserMemory,
    owner_key_of,
    scope_key_of,
)
from convo.search import embed
from convo.search.dates import index_days
from convo.search.embed import Vectors, model_name, pack_vector, remove_names
from convo.search.words import statement_and_question_words, stemmed_words

logger = logging.getLogger(__name__)

SEARCHABLE_ROLES = (Message.Role.USER, Message.Role.ASSISTANT, Message.Role.TOOL)
# A transaction writes at most this many messages, because a reply can't be saved before it ends.
BATCH_SIZE = 200
# A message of any length is stored, but search finds it only by this many characters at its beginning.
MAX_INDEXED_CHARACTERS = 20_000
IndexRow = TypeVar("IndexRow", IndexedMessage, IndexedMemory)
IndexRows = tuple[QuerySet[IndexedMessage], QuerySet[IndexedMemory]]
UPDATE_FIELDS = (
    *("statement_terms", "question_terms", "date_terms", "scope_key", "owner_key", "position"),
    *("vector", "model", "dim"),
)


def unindexed_turns(limit: int) -> list[int]:
    turns = Turn.objects.ended().filter(indexed_at=None)
    return list(turns.order_by("pk").values_list("pk", flat=True)[:limit])


def index_turns() -> int:
    """Index up to 500 turns that have ended and are not in the index; return how many were indexed."""
    return index_turn_batch(unindexed_turns(500))


@jobs.bulk_job("index", overdue=unindexed_turns)
def index_turn_batch(turn_ids: Sequence[int]) -> int:
    """Index these turns. A turn whose session changes meanwhile is left for the next run."""
    return save_index_batch(build_index_batch(turn_ids))


def turns_after(pk: int) -> QuerySet[Turn]:
    """Return the ended turns after this one, indexed or not, in the order of their keys."""
    return Turn.objects.ended().filter(pk__gt=pk).order_by("pk")


def reindex_turns(turns: Sequence[int]) -> None:
    """Index these turns again. Until then searches use their old index rows."""
    # A turn whose session changes meanwhile is left to the next sweep.
    Turn.objects.filter(pk__in=turns).update(indexed_at=None)
    index_turn_batch(turns)


@dataclass(frozen=True, kw_only=True)
class IndexBatch:
    """The index rows of some turns, and the sessions as they were when the rows were built."""

    turn_ids: Sequence[int]
    sessions: Mapping[UUID, Session]
    rows: Sequence[IndexedMessage]


def build_index_batch(turn_ids: Sequence[int]) -> IndexBatch:
    """Build the index rows of these turns, vectors included, without an open transaction."""
    sessions = _sessions(turn_ids)
    messages = _searchable_messages(turn_ids, sessions)
    vectors = embed.embed(list(map(_text_to_embed, messages))) if messages else None
    index_rows = [
        _index_row(message, sessions[message.session_id], number, vectors)
        for number, message in enumerate(messages)
    ]
    return IndexBatch(turn_ids=turn_ids, sessions=sessions, rows=index_rows)


def save_index_batch(prepared: IndexBatch) -> int:
    return sum(_write_batch(batch, prepared) for batch in _batches(prepared))


def unindexed_memories(limit: int) -> list[int]:
    waiting = UserMemory.objects.filter(status=UserMemory.Status.ACTIVE, indexed=None)
    return list(waiting.order_by("pk").values_list("pk", flat=True)[:limit])


@jobs.batch_job
def drop_outdated_memories() -> int:
    """Remove memories from the index that are inactive or were changed; the latter are indexed again."""
    is_inactive = ~Q(memory__status=UserMemory.Status.ACTIVE)
    outdated_rows = IndexedMemory.objects.filter(is_inactive | ~Q(text_key=F("memory__text_key")))
    return outdated_rows.delete()[0]


@jobs.bulk_job("index_memory", overdue=unindexed_memories)
def index_memory_batch(memory_ids: Sequence[int]) -> int:
    new_memories = list(UserMemory.objects.filter(pk__in=memory_ids, indexed=None).order_by("pk"))
    if not new_memories:
        return 0
    vectors = embed.embed([memory.text for memory in new_memories])
    with transaction.atomic():
        # A memory that was forgotten while the vectors were computed must not return to the index.
        unchanged_memories = set(
            UserMemory.objects.select_for_update()
            .filter(pk__in=[memory.pk for memory in new_memories], status=UserMemory.Status.ACTIVE)
            .values_list("pk", "text_key")
        )
        IndexedMemory.objects.bulk_create(
            [
                IndexedMemory(
                    memory=memory,
                    person_id=memory.person_id,
                    text_key=memory.text_key,
                    terms=" ".join(stemmed_words(memory.text)),
                    **_vector_fields(vectors, number),
                )
                for number, memory in enumerate(new_memories)
                if (memory.pk, memory.text_key) in unchanged_memories
            ],
            ignore_conflicts=True,
        )
    return len(unchanged_memories)


@jobs.batch_job
def index_vectors() -> int:
    """Add the vectors of messages or memories that were indexed while the model could not be reached."""
    return _compute_vectors(_index_rows(Q(vector=None)), 500)


def rows_without_vectors() -> IndexRows:
    """Return the messages and memories without a vector of the current model."""
    return _index_rows(~Q(model=model_name()))


def update_vectors(limit: int) -> int:
    """Compute up to `limit` of these vectors; return 0 if none are left or the model can't be reached."""
    return _compute_vectors(rows_without_vectors(), limit)


def _index_rows(condition: Q) -> IndexRows:
    return IndexedMessage.objects.filter(condition), IndexedMemory.objects.filter(condition)


def _compute_vectors(rows: IndexRows, limit: int) -> int:
    messages, memories = rows
    return _save_vectors(_message_texts(messages.order_by("pk")[:limit])) or _save_vectors(
        [(row, row.memory.text) for row in memories.select_related("memory").order_by("pk")[:limit]]
    )


def _message_texts(rows: Iterable[IndexedMessage]) -> list[tuple[IndexedMessage, str]]:
    rows_by_message = {row.pk: row for row in rows}
    messages = Message.objects.filter(pk__in=rows_by_message).beginnings(MAX_INDEXED_CHARACTERS)
    return [(rows_by_message[message.pk], _text_to_embed(message)) for message in messages]


def _save_vectors(texts: Sequence[tuple[IndexRow, str]]) -> int:
    rows = [row for row, _ in texts]
    vectors = embed.embed([text for _, text in texts]) if texts else None
    if vectors is None:
        return 0
    for row, vector in zip(rows, vectors, strict=True):
        row.vector, row.model, row.dim = pack_vector(vector), model_name(), len(vector)
    # An update leaves out rows that were deleted meanwhile, and doesn't create them again.
    manager = type(rows[0])._default_manager
    return manager.bulk_update(rows, ["vector", "model", "dim"], batch_size=BATCH_SIZE)


def _sessions(turn_ids: Sequence[int]) -> dict[UUID, Session]:
    sessions = Session.objects.filter(turns__in=turn_ids).distinct().select_related("person", "owner")
    return {session.pk: session for session in sessions}


def _searchable_messages(turn_ids: Sequence[int], sessions: dict[UUID, Session]) -> list[Message]:
    session_ids = [session.pk for session in sessions.values() if session.is_recallable]
    messages = Message.objects.filter(
        turn__in=turn_ids,
        session__in=session_ids,
        thread="",
        erased_at=None,
        recallable=True,
        role__in=SEARCHABLE_ROLES,
    )
    return (
        messages.exclude(content="", attachment_uses=None)
        .order_by("session", "position")
        .beginnings(MAX_INDEXED_CHARACTERS)
    )


def _text_to_embed(message: Message) -> str:
    return remove_names([message.name], _index_text(message))


def _index_text(message: Message) -> str:
    # A message with files is also found by their names.
    file_names = [file.name for file in files_of(message.item)]
    return "\n".join([message.content, *file_names])


def _index_row(message: Message, session: Session, number: int, vectors: Vectors | None) -> IndexedMessage:
    text, sent_on = _index_text(message), message.created_at.date()
    # Messages with a name are between people, where the answer explains the question. A question to a model
    # explains itself, so its words count as statements.
    statements, questions = statement_and_question_words(text) if message.name else (stemmed_words(text), [])
    return IndexedMessage(
        message=message,
        owner_id=session.owner_id,
        person_id=session.person_id,
        session=session,
        position=message.position,
        scope_key=scope_key_of(session.person, session),
        owner_key=owner_key_of(session.owner_id),
        statement_terms=" ".join(statements),
        question_terms=" ".join(questions),
        date_terms=" ".join(index_days(text, sent_on)),
        **_vector_fields(vectors, number),
    )


def _vector_fields(vectors: Vectors | None, number: int) -> dict[str, object]:
    if vectors is None:
        return {}
    return {"vector": pack_vector(vectors[number]), "model": model_name(), "dim": vectors.shape[1]}


def _batches(prepared: IndexBatch) -> list[list[UUID]]:
    """Group the sessions so that each group has few messages, or is a single session."""
    counts = Counter(row.session_id for row in prepared.rows)
    batches: list[list[UUID]] = [[]]
    size = 0
    # The order of their keys keeps two concurrent writers from a deadlock.
    for session_id in sorted(prepared.sessions):
        if batches[-1] and size + counts[session_id] > BATCH_SIZE:
            batches.append([])
            size = 0
        batches[-1].append(session_id)
        size += counts[session_id]
    return [batch for batch in batches if batch]


@database.retry_conflicts
@transaction.atomic
def _write_batch(session_ids: Sequence[UUID], prepared: IndexBatch) -> int:
    """Write the rows of these sessions, except of those whose transcript has changed since it was read."""
    locked_sessions = Session.objects.select_for_update().filter(pk__in=session_ids).order_by("pk")
    unchanged_ids = {
        session.pk for session in locked_sessions if session.version == prepared.sessions[session.pk].version
    }
    rows = [row for row in prepared.rows if row.session_id in unchanged_ids]
    IndexedMessage.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["message"],
        update_fields=UPDATE_FIELDS,
        batch_size=BATCH_SIZE,
    )
    return Turn.objects.filter(pk__in=prepared.turn_ids, session__in=unchanged_ids).update(indexed_at=Now())
