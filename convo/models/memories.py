"""Memories of people across sessions, and the messages that they were learned from."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.expressions import Combinable
from django.utils import timezone

from convo.models.messages import Message
from convo.models.people import NOBODY, Person


class UserMemoryQuerySet(models.QuerySet["UserMemory"]):
    def owned_by(self, owner: Any, person_ref: str) -> "UserMemoryQuerySet":
        return self.filter(person__owner=owner, person__ref=person_ref)

    def for_prompt(self, person: Person) -> "UserMemoryQuerySet":
        """Return the memories of this person that a model may see: pinned first, then as learned."""
        active = self.filter(person=person, status=UserMemory.Status.ACTIVE).exclude(person__ref=NOBODY)
        return active.exclude(_has_only_deleted_sources(person)).order_by("-pinned", "valid_from", "id")

    def matching(self, *, kind: str = "", words: str = "") -> "UserMemoryQuerySet":
        rows = self.filter(kind=kind.casefold()) if kind else self
        return rows.filter(text__icontains=words) if words else rows

    def unsupported(self, person_id: int) -> "UserMemoryQuerySet":
        """Return this person's memories that were learned from messages of which none is shown any more."""
        active_evidence = Evidence.objects.filter(
            memory=OuterRef("pk"), message__active=True, message__erased_at=None
        )
        memories = self.filter(person=person_id).exclude(source=UserMemory.Source.USER)
        return memories.exclude(status=UserMemory.Status.FORGOTTEN).filter(~Exists(active_evidence))

    def retract(self) -> int:
        """Delete these memories as if they had never been learned, and return how many there were.

        The memories that they superseded become active again, unless others took their place.
        """
        people = set(self.values_list("person_id", flat=True))
        if not people:
            return 0
        # Learning takes these locks as well. They are taken after the lock of a session, never before it.
        list(Person.objects.select_for_update(no_key=True).filter(pk__in=people).order_by("pk"))
        to_delete = {memory.pk: memory for memory in self.all()}
        survivors = UserMemory.objects.filter(superseded_by__in=to_delete).exclude(pk__in=to_delete)
        chains = [
            (memory, *_end_of_chain(memory, to_delete)) for memory in survivors.order_by("-valid_from", "-id")
        ]
        UserMemory.objects.filter(pk__in=to_delete).delete()
        active_by_end: dict[int, UserMemory] = {}
        for memory, end_pk, successor in chains:
            memory.superseded_by = successor or active_by_end.get(end_pk)
            if memory.superseded_by:
                memory.valid_to = memory.superseded_by.valid_from
            elif memory.may_hold_again():
                memory.status, memory.valid_to = UserMemory.Status.ACTIVE, None
                active_by_end[end_pk] = memory
            memory.save(update_fields=["superseded_by", "valid_to", "status"])
        return len(to_delete)


def _has_only_deleted_sources(person: Person) -> Combinable:
    """Return the condition that a memory was learned from nothing but deleted sessions."""
    active_evidence = Evidence.objects.filter(message__active=True, message__erased_at=None)
    remaining_evidence = active_evidence.filter(
        memory=OuterRef("pk"), message__session__state_before__isnull=True
    )
    # The owner's deleted sessions come first in the query, because there are hardly ever any.
    deleted_evidence = Evidence.objects.filter(
        message__session__owner=person.owner_id, message__session__state_before__isnull=False
    )
    is_learned = ~Q(source=UserMemory.Source.USER)
    return Q(pk__in=deleted_evidence.values("memory")) & is_learned & ~Exists(remaining_evidence)


def _end_of_chain(
    memory: "UserMemory", to_delete: Mapping[int, "UserMemory"]
) -> tuple[int, "UserMemory | None"]:
    """Return the last memory to delete in the chain that superseded this one, and that one's successor."""
    end_pk, successor = 0, memory.superseded_by
    while successor and successor.pk in to_delete:
        end_pk, successor = successor.pk, successor.superseded_by
    return end_pk, successor


class UserMemory(models.Model):
    """One fact about one person, with the time for which it holds and the memory that superseded it."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        NEEDS_REVIEW = "needs_review"
        SUPERSEDED = "superseded"
        FORGOTTEN = "forgotten"

    class Source(models.TextChoices):
        MODEL = "model"
        PATTERN = "pattern"
        USER = "user"

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    person = models.ForeignKey(Person, models.CASCADE, related_name="memories")
    kind = models.CharField(max_length=40)
    slot = models.CharField(max_length=80, null=True, blank=True)  # noqa: DJ001  null: no other fact excludes this one
    text = models.TextField()
    text_key = models.CharField(max_length=64, help_text="Keyed hash of the normalised text.")
    confidence = models.FloatField(default=1.0)
    status = models.CharField(max_length=12, choices=Status, default=Status.ACTIVE)
    pinned = models.BooleanField(default=False)
    valid_from = models.DateTimeField(default=timezone.now)
    valid_to = models.DateTimeField(null=True, blank=True)
    superseded_by = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="supersedes"
    )
    source = models.CharField(max_length=7, choices=Source)

    objects = UserMemoryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "user memories"
        permissions = [("erase_usermemory", "Can forget many memories at once")]
        constraints = [
            models.UniqueConstraint(
                fields=["person", "text_key"], condition=~Q(status="superseded"), name="one_memory_per_text"
            ),
            models.UniqueConstraint(
                fields=["person", "slot"],
                condition=Q(status="active", slot__isnull=False),
                name="one_active_memory_per_slot",
            ),
        ]
        indexes = [models.Index(fields=["-id"], condition=Q(status="needs_review"), name="memory_to_review")]

    def __str__(self) -> str:
        return f"memory {self.pk} of {self.person}"

    def may_hold_again(self) -> bool:
        """Return whether this superseded memory can become active: no other one has its text or its slot."""
        conflicting = Q(text_key=self.text_key) & ~Q(status=self.Status.SUPERSEDED)
        if self.slot is not None:
            conflicting |= Q(slot=self.slot, status=self.Status.ACTIVE)
        return not UserMemory.objects.filter(conflicting, person=self.person_id).exists()


class Evidence(models.Model):
    """A message that a memory was learned from. A memory that loses its last one is retracted."""

    memory = models.ForeignKey(UserMemory, models.CASCADE, related_name="evidence", db_index=False)
    message = models.ForeignKey(Message, models.CASCADE, related_name="evidence")

    class Meta:
        verbose_name_plural = "evidence"
        constraints = [models.UniqueConstraint(fields=["memory", "message"], name="one_evidence_per_message")]

    def __str__(self) -> str:
        return f"{self.memory} from {self.message}"
