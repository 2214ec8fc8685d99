"""Days that were counted once and for all: what was used on them, in numbers alone."""

from django.conf import settings
from django.db import models


class TalliedDay(models.Model):
    """A day, in UTC, that is over and counted."""

    day = models.DateField(primary_key=True)

    def __str__(self) -> str:
        return str(self.day)


class Tally(models.Model):
    """What was used on a day with one agent and one model: by one owner, or by all of them together."""

    day = models.ForeignKey(TalliedDay, models.CASCADE, related_name="tallies")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="+")
    agent = models.CharField(max_length=100)
    model = models.CharField(max_length=200, blank=True)
    sums = models.JSONField(help_text="Numbers that can be added up; see convo/usage/values.py.")

    class Meta:
        verbose_name_plural = "tallies"
        indexes = [models.Index(fields=["owner", "day"], name="tally_by_owner")]

    def __str__(self) -> str:
        return f"{self.day_id}: {self.agent}, {self.model}"
