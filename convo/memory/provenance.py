"""Trace a fact to its origins: the messages that it rests on, and the facts that it superseded."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.db.models import Q

from convo.models import Evidence, Session, UserMemory


def evidence(memory: UserMemory) -> list[Evidence]:
    return evidence_by_memory([memory])[memory.pk]


def evidence_by_memory(memories: Iterable[UserMemory]) -> dict[int, list[Evidence]]:
    """Return the evidence of each fact by its primary key, in the order in which it was said."""
    evidence_by_memory: dict[int, list[Evidence]] = {memory.pk: [] for memory in memories}
    rows = Evidence.objects.filter(memory__in=list(evidence_by_memory), message__erased_at=None)
    # A deleted conversation is hidden, although it can still be restored.
    rows = rows.exclude(message__session__state=Session.State.DELETED)
    rows = rows.select_related("message__turn", "message__session")
    for row in rows.order_by("message__created_at", "message__position"):
        evidence_by_memory[row.memory_id].append(row)
    return evidence_by_memory


def versions(memory: UserMemory) -> list[UserMemory]:
    """Return a fact through time, oldest first: what it superseded, and what superseded it."""
    facts = UserMemory.objects.filter(person=memory.person_id).select_related("person", "superseded_by")
    versions: dict[int, UserMemory] = {}
    newest = list(facts.filter(pk=memory.pk))
    while newest:
        versions |= {row.pk: row for row in newest}
        successor_keys = [row.superseded_by_id for row in newest]
        neighbours = facts.filter(Q(pk__in=successor_keys) | Q(superseded_by__in=newest))
        newest = list(neighbours.exclude(pk__in=versions))
    return _oldest_first(versions.values())


def predecessors(memories: Sequence[UserMemory]) -> dict[int, list[UserMemory]]:
    """Return for each fact all that it superseded, directly or indirectly, oldest first."""
    people = {memory.person_id for memory in memories}
    links = UserMemory.objects.filter(person__in=people, superseded_by__isnull=False)
    direct_predecessors: dict[int, list[int]] = defaultdict(list)
    for key, successor in links.values_list("pk", "superseded_by"):
        if successor is not None:
            direct_predecessors[successor].append(key)
    predecessors = {memory.pk: _predecessors(memory.pk, direct_predecessors) for memory in memories}
    not_forgotten = UserMemory.objects.exclude(status=UserMemory.Status.FORGOTTEN)
    rows = not_forgotten.in_bulk([key for keys in predecessors.values() for key in keys])
    return {
        fact: _oldest_first(rows[key] for key in keys if key in rows) for fact, keys in predecessors.items()
    }


def _predecessors(fact: int, direct_predecessors: dict[int, list[int]]) -> list[int]:
    """Return all facts that led to this one; each link is followed once, so a cycle ends."""
    predecessors: list[int] = []
    steps = direct_predecessors.pop(fact, [])
    while steps:
        predecessors += steps
        steps = [key for step in steps for key in direct_predecessors.pop(step, [])]
    return predecessors


def _oldest_first(rows: Iterable[UserMemory]) -> list[UserMemory]:
    return sorted(rows, key=lambda row: (row.valid_from, row.pk))
