"""Forget facts: they leave every surface at once, and their messages are never learned from again."""

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from functools import reduce
from operator import or_
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from convo import database, history, jobs
from convo.errors import ResultDeleted
from convo.memory.repeats import find_repeats, identifying_words
from convo.models import (
    ME,
    Evidence,
    IdempotencyRecord,
    IndexedMemory,
    IndexedMessage,
    Message,
    Person,
    Session,
    Summary,
    Turn,
    UserMemory,
)

# Only this many sessions are locked at a time, so that no conversation waits for all the others.
SESSIONS_AT_A_TIME = 20


def forget(memory: UserMemory) -> None:
    """Forget this fact, and those that it superseded."""
    _forget(memory.person, Q(pk=memory.pk))


def forget_matching(person: Person, words: str) -> int:
    """Forget every fact about this person whose text contains these words; return how many."""
    return _forget(person, Q(text__icontains=words))


def forget_all(person: Person) -> int:
    """Forget every fact about this person, and learn nothing from what they said until now.

    Return how many facts were forgotten.
    """
    return _forget(person, Q(), include_unlearned=True)


def _forget(person: Person, condition: Q, *, include_unlearned: bool = False) -> int:
    if person.pk is None:
        return 0  # an unsaved person has no memories yet
    # The facts lead to the messages, so the messages are handled first: a run that is interrupted in between
    # can be repeated.
    by_session: dict[UUID, list[Message]] = defaultdict(list)
    memories = _facts_to_forget(person, condition)
    words = identifying_words(person, memories)
    for row in _recallable_rows(person, memories, words, include_unlearned=include_unlearned):
        by_session[row.session_id].append(row)
    for keys in database.in_batches(sorted(by_session), SESSIONS_AT_A_TIME):
        _exclude_in_sessions(keys, [row for key in keys for row in by_session[key]])
    return _finish_forgetting(person, condition, memories, words, include_unlearned=include_unlearned)


@database.retry_conflicts
@transaction.atomic
def _exclude_in_sessions(keys: Sequence[UUID], rows: Sequence[Message]) -> None:
    _exclude_from_recall(_lock_sessions(keys), rows)


@database.retry_conflicts
@transaction.atomic
def _finish_forgetting(
    person: Person,
    condition: Q,
    memories_before: Sequence[UserMemory],
    words: Set[str],
    *,
    include_unlearned: bool,
) -> int:
    """Exclude what has come since the batches from recall, erase the facts, and return their number."""
    # The reply of a running turn is found below if the turn ends before this transaction. If it ends later,
    # `history.end_turn` sees that the fact is forgotten.
    running = Session.objects.filter(person=person, turns__status=Turn.Status.RUNNING)
    _lock_sessions(running.values_list("pk", flat=True))
    person = Person.objects.select_for_update(no_key=True).get(pk=person.pk)
    memories = _facts_to_forget(person, condition)
    # These messages were learned from, forked or written since the batches. Their sessions are locked after
    # the person, against the usual order: if the database aborts this as a deadlock, it is retried.
    new_memories = [memory for memory in memories if memory not in memories_before]
    words = words | identifying_words(person, new_memories)
    late_rows = _recallable_rows(person, memories, words, include_unlearned=include_unlearned)
    _exclude_from_recall(_lock_sessions({row.session_id for row in late_rows}), late_rows)
    _erase(memories)
    _drop_stored_responses(person, memories)
    # The new epoch discards facts that are being learned just now from messages read before this moment.
    person.epoch += 1
    person.save(update_fields=["epoch"])
    return len(memories)


def _lock_sessions(keys: Iterable[UUID]) -> list[Session]:
    # Sessions are locked in the same order everywhere, so that no two transactions wait for each other.
    return [session for key in sorted(keys) if (session := Session.objects.lock(key))]


def _recallable_rows(
    person: Person, memories: Sequence[UserMemory], words: Set[str], *, include_unlearned: bool
) -> list[Message]:
    sources = _source_messages(person, memories, include_unlearned=include_unlearned)
    rows = [*(row for row in sources if row.recallable), *find_repeats(person, memories, words, sources)]
    return list({row.pk: row for row in rows}.values())


def _facts_to_forget(person: Person, condition: Q) -> list[UserMemory]:
    """Return the facts to forget and those that they superseded: earlier versions are the same fact."""
    not_forgotten = UserMemory.objects.filter(person=person).exclude(status=UserMemory.Status.FORGOTTEN)
    memories_by_key: dict[int, UserMemory] = {}
    newest = list(not_forgotten.filter(condition).order_by("-pk"))
    while newest:
        memories_by_key |= {memory.pk: memory for memory in newest}
        newest = list(not_forgotten.filter(superseded_by__in=newest).exclude(pk__in=memories_by_key))
    return list(memories_by_key.values())


def _source_messages(
    person: Person, memories: Iterable[UserMemory], *, include_unlearned: bool
) -> list[Message]:
    """Return the messages that the facts were learned from, their replies, and the copies of both in forks.

    The replies may repeat the facts. `include_unlearned` adds the turns that were not learned from yet.
    """
    turns = Turn.objects.filter(messages__evidence__memory__in=[memory.pk for memory in memories])
    if include_unlearned:
        turns = Turn.objects.filter(Q(pk__in=turns.values("pk")) | Q(learned_at=None), session__person=person)
    in_exchange = Q(turn__in=turns.values("pk")) | Q(turn__question_turn__in=turns.values("pk"))
    exchanges = Message.objects.filter(in_exchange)
    copies = Message.objects.filter(session__person=person, item_id__in=exchanges.values("item_id"))
    return list(copies.filter(erased_at=None).only("session_id", "turn_id", "position", "recallable"))


def _exclude_from_recall(sessions: Sequence[Session], rows: Sequence[Message]) -> None:
    """Exclude these messages of locked sessions from recall, search, learning, summaries and titles.

    Their transcript keeps them.
    """
    for batch in database.in_batches(rows):
        keys = [row.pk for row in batch]
        Message.objects.filter(pk__in=keys).update(recallable=False)
        IndexedMessage.objects.filter(message__in=keys).delete()
        # The gist of a turn would repeat what its user said.
        Turn.objects.filter(messages__in=keys, messages__role=Message.Role.USER).update(gist="")
    _rebuild_summaries(sessions, rows)
    _retract_titles(sessions, rows)


def _rebuild_summaries(sessions: Iterable[Session], rows: Iterable[Message]) -> None:
    # Summaries that cover these messages are emptied at once, and then made again without them.
    first_positions: dict[UUID, int] = {}
    for row in rows:
        first_positions[row.session_id] = min(row.position, first_positions.get(row.session_id, row.position))
    for session in sessions:
        if position := first_positions.get(session.pk):
            Summary.objects.mark_stale(session, position, erase=True)
            session.epoch += 1
            session.save(update_fields=["epoch"])
            jobs.enqueue("summarise", session.pk)


def _retract_titles(sessions: Iterable[Session], rows: Sequence[Message]) -> None:
    for session in sessions:
        message_keys = [row.pk for row in rows if row.session_id == session.pk]
        for batch in database.in_batches(message_keys):
            history.reset_title(session, Message.objects.filter(pk__in=batch))


def _erase(memories: Iterable[UserMemory]) -> None:
    """Erase the facts, except for the keyed hash that keeps each from being learned again."""
    keys = [memory.pk for memory in memories]
    Evidence.objects.filter(memory__in=keys).delete()
    IndexedMemory.objects.filter(memory__in=keys).delete()
    for memory in memories:
        if _has_duplicate(memory):
            memory.delete()
            continue
        memory.kind, memory.slot, memory.text = "", None, ""
        memory.confidence, memory.pinned = 0.0, False
        memory.status, memory.valid_to = UserMemory.Status.FORGOTTEN, memory.valid_to or timezone.now()
        memory.save()


def _has_duplicate(memory: UserMemory) -> bool:
    # A fact can hold, be superseded, and hold again: then two rows have its hash.
    duplicates = UserMemory.objects.filter(person=memory.person_id, text_key=memory.text_key)
    return duplicates.exclude(status=UserMemory.Status.SUPERSEDED).exclude(pk=memory.pk).exists()


def _drop_stored_responses(person: Person, memories: Sequence[UserMemory]) -> None:
    person_ref = "" if person.ref == ME else person.ref
    responses = IdempotencyRecord.objects.filter(owner=person.owner_id, person=person_ref, body__isnull=False)
    for batch in database.in_batches(memories):
        mentions = reduce(or_, (Q(body__icontains=str(memory.key)) for memory in batch))
        responses.filter(mentions).update(body=None, status=ResultDeleted.status)
