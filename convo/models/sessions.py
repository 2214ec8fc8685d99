"""A conversation: whose it is, where its transcript stands, and the counters that name its state."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from convo.models.people import Person


class SessionQuerySet(models.QuerySet["Session"]):
    def of(self, owner: Any, person_ref: str | None = None) -> "SessionQuerySet":
        """The conversations of one owner; of one person of theirs, when one is named."""
        mine = self.filter(owner=owner, kind=Session.Kind.CONVERSATION).exclude(state=Session.State.DELETED)
        return mine if person_ref is None else mine.filter(person__ref=person_ref)

    def discarded(self, owner: Any) -> "SessionQuerySet":
        """Those of one owner that are on their way out: nothing of them is found, and they may come back."""
        return self.filter(owner=owner, state_before__isnull=False)

    def over(self) -> "SessionQuerySet":
        """Those whose time is over, by the database's clock."""
        return self.filter(expires_at__lt=Now())

    def locked(self, session_id: uuid.UUID) -> "Session | None":
        """The row, locked until the transaction ends: every write to a transcript begins here."""
        return self.select_for_update().filter(pk=session_id).first()

    def changed(self) -> "SessionQuerySet":
        """Those whose transcript has changed since it was weighed."""
        return self.filter(weighed_version__lt=F("epoch") + F("last_position"))

    def weighed_otherwise(self, rules: str) -> "SessionQuerySet":
        """Those that were weighed by other rules than these."""
        # Not `exclude`: a column's index answers which values are less or greater.
        return self.filter(Q(weighed_rules__lt=rules) | Q(weighed_rules__gt=rules))

    def change(self, **given: Any) -> int:
        """Save what a person changes: the title is theirs from now on, and another agent has other rules."""
        if "title" in given:
            given["title_turn"] = None
        if "agent" in given:
            given["weighed_rules"] = ""
        # One that is deleted at this moment stays so.
        return self.filter(state_before__isnull=True).update(**given)


class Session(models.Model):
    """One conversation. `(epoch, last_position)` names the transcript exactly."""

    class Kind(models.TextChoices):
        CONVERSATION = "conversation"
        CHAIN = "chain"

    class Storage(models.TextChoices):
        KEPT = "kept"
        EPHEMERAL = "ephemeral"
        NONE = "none"

    class State(models.TextChoices):
        OPEN = "open"
        ARCHIVED = "archived"
        CLOSED = "closed"
        # On its way out: nobody finds it any more, and until `expires_at` its owner may have it back.
        DELETED = "deleted"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="convo_sessions")
    person = models.ForeignKey(Person, models.CASCADE, related_name="sessions")
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.CONVERSATION)
    storage = models.CharField(max_length=9, choices=Storage, default=Storage.KEPT)
    ref = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001  null: no name of the application's own
    agent = models.CharField(max_length=100)
    title = models.TextField(blank=True)
    title_turn = models.PositiveIntegerField(
        null=True, blank=True, help_text="The number of the turn it was learned from; null: a person set it."
    )
    metadata = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    state_before = models.CharField(  # noqa: DJ001  null: it is not deleted
        max_length=8, choices=State, null=True, blank=True, editable=False, help_text="Before it was deleted."
    )
    epoch = models.PositiveIntegerField(default=0, help_text="Rises at every change that is not an append.")
    base_position = models.PositiveBigIntegerField(default=0)
    last_position = models.PositiveBigIntegerField(default=0)
    last_turn = models.PositiveIntegerField(default=0)
    message_count = models.PositiveBigIntegerField(default=0)
    turn_count = models.PositiveIntegerField(default=0)
    token_count = models.PositiveBigIntegerField(default=0)
    forked_from = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="forks")
    forked_at = models.PositiveBigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_activity = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)

    # Weighed: it was found out whether a summary is due, which every sweep asks and few changes answer anew.
    summary_due = models.BooleanField(default=False)
    weighed_version = models.PositiveBigIntegerField(
        default=0, help_text="What epoch + last_position was then; both of them only rise."
    )
    weighed_rules = models.CharField(max_length=16, blank=True, help_text="Names the agents' rules then.")

    objects = SessionQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["owner", "kind", "-last_activity", "id"], name="session_by_owner"),
            models.Index(fields=["person", "kind", "-last_activity", "id"], name="session_by_person"),
            models.Index(
                fields=["expires_at"], condition=Q(expires_at__isnull=False), name="session_expiring"
            ),
            models.Index(fields=["owner"], condition=Q(state_before__isnull=False), name="session_discarded"),
            models.Index(fields=["last_activity"], condition=Q(summary_due=True), name="session_due"),
            models.Index(
                fields=["id"],
                condition=Q(weighed_version__lt=F("epoch") + F("last_position")),
                name="session_unweighed",
            ),
            models.Index(fields=["weighed_rules"], name="session_by_rules"),
            models.Index(fields=["-last_activity", "-id"], name="session_newest"),
            models.Index(fields=["ref"], condition=Q(ref__isnull=False), name="session_by_ref"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["person", "ref"], condition=Q(ref__isnull=False), name="one_session_per_ref"
            ),
            models.CheckConstraint(
                condition=Q(base_position__lte=F("last_position")), name="session_base_not_past_last"
            ),
            models.CheckConstraint(
                condition=Q(state="deleted", state_before__isnull=False, expires_at__isnull=False)
                | (~Q(state="deleted") & Q(state_before__isnull=True)),
                name="session_deleted_for_a_while",
            ),
        ]

    def __str__(self) -> str:
        # Not the title, which tells what was said: this stands in logs and in the admin.
        return str(self.id)

    @property
    def version(self) -> tuple[int, int]:
        """The name of the transcript as it stands: what caches and background writes carry and compare."""
        return self.epoch, self.last_position
