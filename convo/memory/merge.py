"""Several facts that say the same: one of them stands for all, and rests on what each of them rested on."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from convo import database
from convo.errors import InvalidRequest, MemoryNotCurrent
from convo.models import Evidence, Person, Session, UserMemory

Status = UserMemory.Status


@database.retried
@transaction.atomic
def merge(kept: UserMemory, others: Sequence[UserMemory]) -> UserMemory:
    """Let this fact take the place of the others, all about one person; to forget it forgets them too."""
    keys = {row.pk for row in others} - {kept.pk}
    if any(row.person_id != kept.person_id for row in others):
        raise InvalidRequest("These are about different people. Merge what is known about one of them.")
    # Who deletes a message locks its session, and takes away what is rested on it: none may slip in between.
    for session in sorted(set(_evidence(keys).values_list("message__session", flat=True))):
        Session.objects.locked(session)
    person = Person.objects.locked(kept.person)
    rows = UserMemory.objects.filter(person=person, pk__in=keys | {kept.pk})
    current = {row.pk: row for row in rows.filter(status__in=[Status.ACTIVE, Status.NEEDS_REVIEW])}
    if current.keys() != keys | {kept.pk}:
        raise MemoryNotCurrent
    one = current.pop(kept.pk)
    if one.status == Status.NEEDS_REVIEW and any(row.status == Status.ACTIVE for row in current.values()):
        raise InvalidRequest("The one to keep waits for review, and others are in use. Approve it first.")
    _take_the_place(one, list(current.values()))
    return one


def _take_the_place(kept: UserMemory, others: Sequence[UserMemory]) -> None:
    slots = {row.slot for row in others if row.slot and row.status == Status.ACTIVE}
    for row in others:
        row.status, row.valid_to, row.superseded_by = Status.SUPERSEDED, timezone.now(), kept
        row.save(update_fields=["status", "valid_to", "superseded_by"])
    if kept.slot is None and len(slots) == 1:
        kept.slot = slots.pop()
    kept.pinned = kept.pinned or any(row.pinned for row in others)
    kept.confidence = max(kept.confidence, *(row.confidence for row in others), 0)
    kept.save(update_fields=["slot", "pinned", "confidence"])
    rested_on = _evidence({row.pk for row in others}).values_list("message", flat=True)
    # They keep their own, too: what one of them alone rested on is told of it when it is looked at.
    Evidence.objects.bulk_create(
        [Evidence(memory=kept, message_id=message) for message in set(rested_on)], ignore_conflicts=True
    )


def _evidence(memories: set[int]) -> QuerySet[Evidence]:
    return Evidence.objects.filter(memory__in=memories)
