"""What is known about a person across sessions, and the messages that it was learned from."""

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from convo.models.messages import Message
from convo.models.people import Person


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

    def __str__(self) -> str:
        return f"{self.kind} of {self.person}"


class Evidence(models.Model):
    """A message that a memory rests on. A memory that has lost its last one is retracted."""

    memory = models.ForeignKey(UserMemory, models.CASCADE, related_name="evidence")
    message = models.ForeignKey(Message, models.CASCADE, related_name="evidence")

    class Meta:
        verbose_name_plural = "evidence"
        constraints = [models.UniqueConstraint(fields=["memory", "message"], name="one_evidence_per_message")]

    def __str__(self) -> str:
        return f"{self.memory} from {self.message}"
