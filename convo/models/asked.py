"""What a caller of the OpenAI-compatible API asked for beside the question."""

from typing import Any

from django.db import models

from convo.models.turns import Turn


class AskedQuerySet(models.QuerySet["Asked"]):
    def of(self, owner: Any, surface: str) -> "AskedQuerySet":
        """What one owner may see again, with the turns and their sessions."""
        mine = self.filter(turn__session__owner=owner, surface=surface, retrievable=True)
        mine = mine.filter(turn__session__state_before__isnull=True)
        return mine.select_related("turn__session__person", "turn__asks")


class Asked(models.Model):
    """One turn's wishes: to be shown again as they were given, and to be obeyed when the turn is run."""

    class Surface(models.TextChoices):
        RESPONSE = "response"
        COMPLETION = "chat.completion"

    turn = models.OneToOneField(Turn, models.CASCADE, primary_key=True, related_name="asked")
    surface = models.CharField(max_length=15, choices=Surface, default=Surface.RESPONSE)
    params = models.JSONField(default=dict, blank=True, help_text="The request's own fields, as given.")
    metadata = models.JSONField(default=dict, blank=True)
    wishes = models.JSONField(default=dict, blank=True, help_text="What the runner goes by.")
    background = models.BooleanField(default=False)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How often it was begun anew.")
    retrievable = models.BooleanField(default=True, help_text="Not if `store` was false, or once deleted.")

    objects = AskedQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "asked"

    def __str__(self) -> str:
        return f"{self.surface} of turn {self.turn_id}"
