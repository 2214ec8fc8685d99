"""Feedback on replies."""

from django.db import models
from django.utils import timezone

from convo.models.turns import Turn


class Feedback(models.Model):
    """A thumb up or down on a reply, and why."""

    class Value(models.IntegerChoices):
        UP = 1, "up"
        DOWN = -1, "down"

    turn = models.OneToOneField(Turn, models.CASCADE, related_name="feedback")
    value = models.SmallIntegerField(choices=Value)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "feedback"
        indexes = [models.Index(fields=["-created_at"], name="feedback_newest")]

    def __str__(self) -> str:
        return f"{self.get_value_display()} for {self.turn}"
