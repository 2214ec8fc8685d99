"""Where a fact comes from: the messages that it rests on, and the facts whose place it took."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.db.models import Q

from convo.models import Evidence, Session, UserMemory


def evidence(memory: UserMemory) -> list[Evidence]:
    """The messages that the fact rests on, in the order in which they were said."""
    return evidence_of([memory])[memory.pk]


def evidence_of(memories: Iterable[UserMemory]) -> dict[int, list[Evidence]]:
    """The same for each of these facts, at once."""
    found: dict[int, list[Evidence]] = {memory.pk: [] for memory in memories}
    rows = Evidence.objects.filter(memory__in=list(found), message__erased_at=None)
    # Nobody finds a conversation that is on its way out.
    rows = rows.exclude(message__session__state=Session.State.DELETED)
    rows = rows.select_related("message__turn", "message__session")
    for row in rows.order_by("message__created_at", "message__position"):
        found[row.memory_id].append(row)
    return found


def history(memory: UserMemory) -> list[UserMemory]:
    """The fact through time, oldest first: what it replaced, and what replaced it."""
    everything = UserMemory.objects.filter(person=memory.person_id).select_related("person", "superseded_by")
    found: dict[int, UserMemory] = {}
    newest = list(everything.filter(pk=memory.pk))
    while newest:
        found |= {row.pk: row for row in newest}
        replacing = [row.superseded_by_id for row in newest]
        linked = everything.filter(Q(pk__in=replacing) | Q(superseded_by__in=newest))
        newest = list(linked.exclude(pk__in=found))
    return _through_time(found.values())


def replaced(memories: Sequence[UserMemory]) -> dict[int, list[UserMemory]]:
    """For each of these facts all whose place it took, and they before it, oldest first."""
    people = {memory.person_id for memory in memories}
    links = UserMemory.objects.filter(person__in=people, superseded_by__isnull=False)
    earlier: dict[int, list[int]] = defaultdict(list)
    for key, heir in links.values_list("pk", "superseded_by"):
        if heir is not None:
            earlier[heir].append(key)
    found = {memory.pk: _before(memory.pk, earlier) for memory in memories}
    remembered = UserMemory.objects.exclude(status=UserMemory.Status.FORGOTTEN)
    rows = remembered.in_bulk([key for keys in found.values() for key in keys])
    return {fact: _through_time(rows[key] for key in keys if key in rows) for fact, keys in found.items()}


def _before(fact: int, earlier: dict[int, list[int]]) -> list[int]:
    """All that led to this fact; each link is followed once, so that none leads round in a circle."""
    found: list[int] = []
    steps = earlier.pop(fact, [])
    while steps:
        found += steps
        steps = [key for step in steps for key in earlier.pop(step, [])]
    return found


def _through_time(rows: Iterable[UserMemory]) -> list[UserMemory]:
    return sorted(rows, key=lambda row: (row.valid_from, row.pk))
