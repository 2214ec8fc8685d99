"""Idempotency keys: a write that is sent twice with the same key is made once."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from convo.models.turns import Turn


class IdempotencyRecordQuerySet(models.QuerySet["IdempotencyRecord"]):
    def expired(self) -> "IdempotencyRecordQuerySet":
        return self.filter(created_at__lt=Now() - IdempotencyRecord.LIFETIME)


class IdempotencyRecord(models.Model):
    """One write with an idempotency key: the turn that it created, or the response that it got."""

    LIFETIME = timedelta(hours=24)

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="convo_idempotency_records", db_index=False
    )
    person = models.CharField(max_length=255, blank=True, help_text="The end user named; '' when none was.")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="Hash of method, path and body.")
    turn = models.ForeignKey(Turn, models.CASCADE, null=True, blank=True, related_name="idempotency_records")
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    body = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = IdempotencyRecordQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "person", "key"], name="one_write_per_idempotency_key")
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]

    def __str__(self) -> str:
        return f"key of {self.owner}, {self.created_at:%Y-%m-%d %H:%M}"
