"""Requests to the OpenAI-compatible API: all that they contain besides the question."""

from typing import Any

from django.db import models

from convo.models.turns import Turn


class TurnRequestQuerySet(models.QuerySet["TurnRequest"]):
    def owned_by(self, owner: Any, surface: str) -> "TurnRequestQuerySet":
        """Return what an owner may retrieve through this surface, with the turns and their sessions."""
        requests = self.filter(turn__session__owner=owner, surface=surface, is_stored=True)
        requests = requests.filter(turn__session__state_before__isnull=True)
        return requests.select_related("turn__session__person", "turn__question_turn")


class TurnRequest(models.Model):
    """The request for one turn: its parameters as the client sent them, and the options for its runner."""

    class Surface(models.TextChoices):
        RESPONSE = "response"
        COMPLETION = "chat.completion"

    turn = models.OneToOneField(Turn, models.CASCADE, primary_key=True, related_name="request")
    surface = models.CharField(max_length=15, choices=Surface, default=Surface.RESPONSE)
    params = models.JSONField(default=dict, blank=True, help_text="The request's own fields, as given.")
    metadata = models.JSONField(default=dict, blank=True)
    options = models.JSONField(default=dict, blank=True, help_text="The options for the turn's runner.")
    background = models.BooleanField(default=False)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How often the turn was started again.")
    is_stored = models.BooleanField(default=True, help_text="False if `store` was false, or once deleted.")

    objects = TurnRequestQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.surface} of turn {self.turn_id}"
