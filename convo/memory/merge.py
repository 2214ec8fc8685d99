"""Merge facts that say the same: one of them supersedes the others and gains their evidence."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from convo import database
from convo.errors import InvalidRequest, MemoryNotCurrent
from convo.memory.store import add_evidence
from convo.models import Evidence, Person, Session, UserMemory

Status = UserMemory.Status


@database.retry_conflicts
@transaction.atomic
def merge(target: UserMemory, duplicates: Sequence[UserMemory]) -> UserMemory:
    """Supersede the duplicates by the target, all about one person; forgetting it forgets them too."""
    keys = {row.pk for row in duplicates} - {target.pk}
    if any(row.person_id != target.person_id for row in duplicates):
        raise InvalidRequest("These memories are about different people. Merge memories of one person only.")
    # Deleting a message locks its session and retracts the facts that rested on it alone. With the sessions
    # locked here, no deletion can come in between.
    for session in sorted(set(_evidence(keys).values_list("message__session", flat=True))):
        Session.objects.lock(session)
    person = Person.objects.lock(target.person)
    rows = UserMemory.objects.filter(person=person, pk__in=keys | {target.pk})
    current = {row.pk: row for row in rows.filter(status__in=[Status.ACTIVE, Status.NEEDS_REVIEW])}
    if current.keys() != keys | {target.pk}:
        raise MemoryNotCurrent
    merged = current.pop(target.pk)
    if merged.status == Status.NEEDS_REVIEW and any(row.status == Status.ACTIVE for row in current.values()):
        raise InvalidRequest("The memory to keep waits for review, but others are in use. Approve it first.")
    _supersede(merged, list(current.values()))
    return merged


def _supersede(target: UserMemory, duplicates: Sequence[UserMemory]) -> None:
    slots = {row.slot for row in duplicates if row.slot and row.status == Status.ACTIVE}
    for row in duplicates:
        row.status, row.valid_to, row.superseded_by = Status.SUPERSEDED, timezone.now(), target
        row.save(update_fields=["status", "valid_to", "superseded_by"])
    if target.slot is None and len(slots) == 1:
        target.slot = slots.pop()
    target.pinned = target.pinned or any(row.pinned for row in duplicates)
    target.confidence = max(target.confidence, *(row.confidence for row in duplicates), 0)
    target.save(update_fields=["slot", "pinned", "confidence"])
    message_ids = _evidence({row.pk for row in duplicates}).values_list("message", flat=True)
    # The duplicates keep their evidence, too, so that the history still shows what each of them rested on.
    add_evidence(target, set(message_ids))


def _evidence(memories: set[int]) -> QuerySet[Evidence]:
    return Evidence.objects.filter(memory__in=memories)
