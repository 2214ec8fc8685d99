"""What is known about a person across sessions, and the messages that it was learned from."""

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
    def of(self, owner: Any, person_ref: str) -> "UserMemoryQuerySet":
        """The memories of one person of this owner's, in whatever state."""
        return self.filter(person__owner=owner, person__ref=person_ref)

    def known(self, person: Person) -> "UserMemoryQuerySet":
        """What may be told to a model about this person: pinned first, then in the order it was learned."""
        active = self.filter(person=person, status=UserMemory.Status.ACTIVE).exclude(person__ref=NOBODY)
        return active.exclude(_shaken(person)).order_by("-pinned", "valid_from", "id")

    def about(self, *, kind: str = "", words: str = "") -> "UserMemoryQuerySet":
        """Those of this kind, and those that have these words, where any are given."""
        rows = self.filter(kind=kind.casefold()) if kind else self
        return rows.filter(text__icontains=words) if words else rows

    def unsupported(self, person_id: int) -> "UserMemoryQuerySet":
        """What was learned about this person from messages of which none is shown any more."""
        shown = Evidence.objects.filter(memory=OuterRef("pk"), message__active=True, message__erased_at=None)
        learned = self.filter(person=person_id).exclude(source=UserMemory.Source.USER)
        return learned.exclude(status=UserMemory.Status.FORGOTTEN).filter(~Exists(shown))

    def retract(self) -> int:
        """Take these back, as if they had never been learned: what they had replaced holds again."""
        people = set(self.values_list("person_id", flat=True))
        if not people:
            return 0
        # Whoever learns holds these locks too. They are taken behind a session's, never before it.
        list(Person.objects.select_for_update(no_key=True).filter(pk__in=people).order_by("pk"))
        doomed = {memory.pk: memory for memory in self.all()}
        orphans = UserMemory.objects.filter(superseded_by__in=doomed).exclude(pk__in=doomed)
        ends = [(memory, *_end(memory, doomed)) for memory in orphans.order_by("-valid_from", "-id")]
        UserMemory.objects.filter(pk__in=doomed).delete()
        holding: dict[int, UserMemory] = {}
        for memory, last, heir in ends:
            memory.superseded_by = heir or holding.get(last)
            if memory.superseded_by:
                memory.valid_to = memory.superseded_by.valid_from
            elif memory.may_hold_again():
                memory.status, memory.valid_to = UserMemory.Status.ACTIVE, None
                holding[last] = memory
            memory.save(update_fields=["superseded_by", "valid_to", "status"])
        return len(doomed)


def _shaken(person: Person) -> Combinable:
    """Was it learned from nothing but conversations that are on their way out?"""
    shown = Evidence.objects.filter(message__active=True, message__erased_at=None)
    there = shown.filter(memory=OuterRef("pk"), message__session__state_before__isnull=True)
    # Whose conversations stand first in the query, for there are hardly ever any on their way out.
    leaving = Evidence.objects.filter(
        message__session__owner=person.owner_id, message__session__state_before__isnull=False
    )
    learned = ~Q(source=UserMemory.Source.USER)
    return Q(pk__in=leaving.values("memory")) & learned & ~Exists(there)


def _end(memory: "UserMemory", doomed: Mapping[int, "UserMemory"]) -> tuple[int, "UserMemory | None"]:
    """The last of the doomed in a row that replaced this memory, and what replaced that one in turn."""
    last, heir = 0, memory.superseded_by
    while heir and heir.pk in doomed:
        last, heir = heir.pk, heir.superseded_by
    return last, heir


class UserMemory(models.Model):
    """One fact about one person, with how long it has held and what replaced it."""

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
        """Has nothing else taken the place that this superseded memory had?"""
        same = Q(text_key=self.text_key) & ~Q(status=self.Status.SUPERSEDED)
        if self.slot is not None:
            same |= Q(slot=self.slot, status=self.Status.ACTIVE)
        return not UserMemory.objects.filter(same, person=self.person_id).exists()


class Evidence(models.Model):
    """A message that a memory rests on. A memory that has lost its last one is retracted."""

    memory = models.ForeignKey(UserMemory, models.CASCADE, related_name="evidence")
    message = models.ForeignKey(Message, models.CASCADE, related_name="evidence")

    class Meta:
        verbose_name_plural = "evidence"
        constraints = [models.UniqueConstraint(fields=["memory", "message"], name="one_evidence_per_message")]

    def __str__(self) -> str:
        return f"{self.memory} from {self.message}"
