"""The keys under which writes were made, so that the same write sent twice is made once."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from convo.models.turns import Turn

KEPT = timedelta(hours=24)


class IdempotencyQuerySet(models.QuerySet["Idempotency"]):
    def old(self) -> "IdempotencyQuerySet":
        """Keys whose time is over: the same key is a new one."""
        return self.filter(created_at__lt=Now() - KEPT)


class Idempotency(models.Model):
    """One write under one key: the turn that it made, or the answer that it got."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="convo_idempotency_keys")
    person = models.CharField(max_length=255, blank=True, help_text="The end user named; '' when none was.")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="Hash of method, path and body.")
    turn = models.ForeignKey(Turn, models.CASCADE, null=True, blank=True, related_name="idempotency_keys")
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    body = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = IdempotencyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "idempotency keys"
        constraints = [
            models.UniqueConstraint(fields=["owner", "person", "key"], name="one_write_per_idempotency_key")
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]

    def __str__(self) -> str:
        return f"key of {self.owner}, {self.created_at:%Y-%m-%d %H:%M}"
