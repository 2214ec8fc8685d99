"""Forgetting: a fact goes from every surface at once, and what it was learned from teaches nothing more."""

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from convo import database, history, jobs
from convo.errors import Gone
from convo.models import (
    ME,
    Evidence,
    Idempotency,
    IndexedMemory,
    IndexedMessage,
    Message,
    Person,
    Session,
    Turn,
    UserMemory,
)

R = TypeVar("R")


def forget(memory: UserMemory) -> None:
    """Forget this fact, and what it once replaced."""
    _forget(memory.person, Q(pk=memory.pk))


def forget_matching(person: Person, words: str) -> int:
    """Forget every fact about this person whose text has these words; how many those were."""
    return _forget(person, Q(text__icontains=words))


def forget_all(person: Person) -> int:
    """Forget all that is known about this person, and learn nothing more from what they said until now."""
    return _forget(person, Q(), unlearned_too=True)


@database.retried
@transaction.atomic
def _forget(person: Person, chosen: Q, *, unlearned_too: bool = False) -> int:
    if person.pk is None:
        return 0  # nobody has mentioned them
    sessions, person = _locked(person, chosen, unlearned_too=unlearned_too)
    memories = _chosen(person, chosen)
    said = _said(person, memories, unlearned_too=unlearned_too)
    _hide(said)
    _make_summaries_anew(sessions, said)
    _take_titles_back(sessions, said)
    _empty(memories)
    _unsay(person, memories)
    # What is being learned just now was read before this moment, and is not written.
    person.epoch += 1
    person.save(update_fields=["epoch"])
    return len(memories)


def _locked(person: Person, chosen: Q, *, unlearned_too: bool) -> tuple[list[Session], Person]:
    """The sessions that the facts come from, then the person: locked in the order of all who lock both."""
    touched = _touched(person, chosen, unlearned_too=unlearned_too)
    sessions = {key: Session.objects.locked(key) for key in sorted(touched)}
    person = Person.objects.select_for_update(no_key=True).get(pk=person.pk)
    # Facts that were learned, and forks that were made, while this waited for its locks. Out of their order:
    # a deadlock is given up by the database, and this begins again.
    late = _touched(person, chosen, unlearned_too=unlearned_too) - sessions.keys()
    sessions |= {key: Session.objects.locked(key) for key in sorted(late)}
    return [session for session in sessions.values() if session], person


def _touched(person: Person, chosen: Q, *, unlearned_too: bool) -> set[UUID]:
    said = _said(person, _chosen(person, chosen), unlearned_too=unlearned_too)
    return {row.session_id for row in said}


def _chosen(person: Person, chosen: Q) -> list[UserMemory]:
    """The facts to forget, and those that they replaced: what was known before is the same fact."""
    remembered = UserMemory.objects.filter(person=person).exclude(status=UserMemory.Status.FORGOTTEN)
    found: dict[int, UserMemory] = {}
    newest = list(remembered.filter(chosen).order_by("-pk"))
    while newest:
        found |= {memory.pk: memory for memory in newest}
        newest = list(remembered.filter(superseded_by__in=newest).exclude(pk__in=found))
    return list(found.values())


def _said(person: Person, memories: Iterable[UserMemory], *, unlearned_too: bool) -> list[Message]:
    """What the facts were learned from, with the replies, which may repeat it, and the copies of forks."""
    taught = Turn.objects.filter(messages__evidence__memory__in=[memory.pk for memory in memories])
    if unlearned_too:
        taught = Turn.objects.filter(
            Q(pk__in=taught.values("pk")) | Q(learned_at=None), session__person=person
        )
    exchanges = Message.objects.filter(
        Q(turn__in=taught.values("pk")) | Q(turn__asks__in=taught.values("pk"))
    )
    copies = Message.objects.filter(session__person=person, item_id__in=exchanges.values("item_id"))
    return list(copies.filter(erased_at=None).only("session_id", "turn_id", "position"))


def _hide(said: Sequence[Message]) -> None:
    """Take these messages out of recall, search and learning; their transcript keeps them."""
    for some in _parts(said):
        keys = [row.pk for row in some]
        Message.objects.filter(pk__in=keys).update(recallable=False)
        IndexedMessage.objects.filter(message__in=keys).delete()
        # The one line of a turn would tell what they say.
        Turn.objects.filter(messages__in=keys).update(gist="")


def _make_summaries_anew(sessions: Iterable[Session], said: Iterable[Message]) -> None:
    """Empty the summaries that tell what these messages say, and have them made without."""
    first: dict[UUID, int] = {}
    for row in said:
        first[row.session_id] = min(row.position, first.get(row.session_id, row.position))
    for session in sessions:
        if position := first.get(session.pk):
            history.stale_from(session, position, erase=True)
            session.epoch += 1
            session.save(update_fields=["epoch"])
            jobs.later("summarise", session.pk)


def _take_titles_back(sessions: Iterable[Session], said: Sequence[Message]) -> None:
    for session in sessions:
        theirs = [row.pk for row in said if row.session_id == session.pk]
        for some in _parts(theirs):
            history.take_title_back(session, Message.objects.filter(pk__in=some))


def _empty(memories: Iterable[UserMemory]) -> None:
    """Leave of each fact only the keyed hash that keeps it from being learned again."""
    keys = [memory.pk for memory in memories]
    Evidence.objects.filter(memory__in=keys).delete()
    IndexedMemory.objects.filter(memory__in=keys).delete()
    for memory in memories:
        if _is_kept_elsewhere(memory):
            memory.delete()
            continue
        memory.kind, memory.slot, memory.text = "", None, ""
        memory.confidence, memory.pinned = 0.0, False
        memory.status, memory.valid_to = UserMemory.Status.FORGOTTEN, memory.valid_to or timezone.now()
        memory.save()


def _is_kept_elsewhere(memory: UserMemory) -> bool:
    """Has another row this text's hash, as where a fact held, was replaced, and held again?"""
    others = UserMemory.objects.filter(person=memory.person_id, text_key=memory.text_key)
    return others.exclude(status=UserMemory.Status.SUPERSEDED).exclude(pk=memory.pk).exists()


def _unsay(person: Person, memories: Sequence[UserMemory]) -> None:
    """Drop the answers kept under Idempotency-Keys that tell these facts."""
    named = "" if person.ref == ME else person.ref
    told = Idempotency.objects.filter(owner=person.owner_id, person=named, body__isnull=False)
    for some in _parts(memories):
        tells = reduce(or_, (Q(body__icontains=str(memory.key)) for memory in some))
        told.filter(tells).update(body=None, status=Gone.status)


def _parts(rows: Sequence[R]) -> Iterator[Sequence[R]]:
    """The rows in lots small enough for one statement of any database."""
    for start in range(0, len(rows), 500):
        yield rows[start : start + 500]
