"""Usage by day, counted once and for all, in numbers alone."""

from django.conf import settings
from django.db import models


class UsageDay(models.Model):
    """A day, in UTC, that is over and counted."""

    day = models.DateField(primary_key=True)

    def __str__(self) -> str:
        return str(self.day)


class DailyUsage(models.Model):
    """The usage of one agent and one model on one day: by one owner, or by all owners together."""

    day = models.ForeignKey(UsageDay, models.CASCADE, related_name="usage_rows")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="+")
    agent = models.CharField(max_length=100)
    model = models.CharField(max_length=200, blank=True)
    sums = models.JSONField(help_text="Numbers that can be added up; see convo/usage/figures.py.")

    class Meta:
        verbose_name_plural = "daily usage"
        indexes = [models.Index(fields=["owner", "day"], name="usage_by_owner")]

    def __str__(self) -> str:
        return f"{self.day_id}: {self.agent}, {self.model}"
