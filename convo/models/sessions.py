"""Sessions: their owners and settings, and the counters that name the state of a transcript."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from convo.models.people import Person


class SessionQuerySet(models.QuerySet["Session"]):
    def owned_by(self, owner: Any, person_ref: str | None = None) -> "SessionQuerySet":
        rows = self.filter(owner=owner, kind=Session.Kind.CONVERSATION).exclude(state=Session.State.DELETED)
        return rows if person_ref is None else rows.filter(person__ref=person_ref)

    def discarded(self, owner: Any) -> "SessionQuerySet":
        """Return the deleted sessions of an owner, which nobody finds and which can still be restored."""
        return self.filter(owner=owner, state_before__isnull=False)

    def cleared_from(self, session: "Session") -> "SessionQuerySet":
        """Return what was cleared from this session and can be restored: unlike forks, without a position."""
        return self.filter(forked_from=session, fork_position=None, state_before__isnull=False)

    def expired(self) -> "SessionQuerySet":
        return self.filter(expires_at__lt=Now())

    def lock(self, session_id: uuid.UUID) -> "Session | None":
        # Every write to a transcript begins with this lock.
        return self.select_for_update().filter(pk=session_id).first()

    def with_unchecked_changes(self) -> "SessionQuerySet":
        """Return the sessions whose transcript has changed since they were checked for a due summary."""
        return self.filter(checked_version__lt=F("epoch") + F("last_position"))

    def checked_by_other_rules(self, rules: str) -> "SessionQuerySet":
        """Return the unchanged sessions that were checked for a due summary by other rules than these."""
        unchanged_sessions = self.filter(checked_version__gte=F("epoch") + F("last_position"))
        # The index can't serve `exclude`, but it finds values that are less or greater.
        return unchanged_sessions.filter(Q(checked_rules__lt=rules) | Q(checked_rules__gt=rules))

    def change(self, **fields: object) -> int:
        """Save a person's changes: no job replaces their title, and a new agent has other summary rules."""
        if "title" in fields:
            fields["title_turn"] = None
        if "agent" in fields:
            fields["checked_rules"] = ""
        # A session that is being deleted at the same moment stays as it is.
        return self.filter(state_before__isnull=True).update(**fields)


class Session(models.Model):
    """One conversation with its settings. `(epoch, last_position)` names its transcript exactly."""

    class Kind(models.TextChoices):
        CONVERSATION = "conversation"
        CHAIN = "chain"

    class Storage(models.TextChoices):
        PERSISTENT = "persistent"
        EPHEMERAL = "ephemeral"
        NONE = "none"

    class State(models.TextChoices):
        OPEN = "open"
        ARCHIVED = "archived"
        CLOSED = "closed"
        # A deleted session is found by nobody, and until `expires_at` its owner can restore it.
        DELETED = "deleted"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="convo_sessions", db_index=False
    )
    person = models.ForeignKey(Person, models.CASCADE, related_name="sessions", db_index=False)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.CONVERSATION)
    storage = models.CharField(max_length=10, choices=Storage, default=Storage.PERSISTENT)
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
    forked_from = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="forks", db_index=False
    )
    fork_position = models.PositiveBigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_activity = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)

    # The result of the last check for a due summary. Sweeps reuse it: few changes alter it.
    summary_due = models.BooleanField(default=False)
    checked_version = models.PositiveBigIntegerField(
        default=0, help_text="epoch + last_position at the check; both of them only rise."
    )
    checked_rules = models.CharField(
        max_length=16, blank=True, help_text="Hash of the agents' summary rules at the check."
    )

    objects = SessionQuerySet.as_manager()

    class Meta:
        # Every append changes `last_activity` and the counters, and thereby writes to all of these indexes
        # whose condition holds: most conditions hold for few sessions.
        indexes = [
            # The lists of an owner and of a person, the latest activity first.
            models.Index(fields=["owner", "kind", "-last_activity", "id"], name="session_by_owner"),
            models.Index(fields=["person", "kind", "-last_activity", "id"], name="session_by_person"),
            # The admin's list of all sessions.
            models.Index(fields=["-last_activity", "-id"], name="session_newest"),
            # The sweep that deletes expired sessions.
            models.Index(
                fields=["expires_at"], condition=Q(expires_at__isnull=False), name="session_expiring"
            ),
            # The deleted sessions of an owner, which search leaves out and which can be restored.
            models.Index(fields=["owner"], condition=Q(state_before__isnull=False), name="session_discarded"),
            # The forks of a session, when it is cleared or deleted.
            models.Index(
                fields=["forked_from"], condition=Q(forked_from__isnull=False), name="session_forks"
            ),
            # The work lists of the sweep for summaries: due, to be checked, and checked by other rules.
            models.Index(fields=["last_activity"], condition=Q(summary_due=True), name="session_due"),
            models.Index(
                fields=["id"],
                condition=Q(checked_version__lt=F("epoch") + F("last_position")),
                name="session_unchecked",
            ),
            models.Index(
                fields=["checked_rules"],
                condition=Q(checked_version__gte=F("epoch") + F("last_position")),
                name="session_by_rules",
            ),
        ]
        constraints = [
            # It also serves the admin's search for a ref, because it begins with that.
            models.UniqueConstraint(
                fields=["ref", "person"], condition=Q(ref__isnull=False), name="one_session_per_ref"
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
        # Logs and the admin show this string, so it must not be the title, which reveals what was said.
        return str(self.id)

    @property
    def is_cleared_transcript(self) -> bool:
        """Return whether it holds what was cleared from `forked_from`, while that can be undone."""
        return self.state == self.State.DELETED and bool(self.forked_from_id) and self.fork_position is None

    @property
    def is_ephemeral(self) -> bool:
        return self.storage == self.Storage.EPHEMERAL

    @property
    def is_recallable(self) -> bool:
        """Whether search, summaries and learning use its messages: those of stored conversations."""
        return self.kind == self.Kind.CONVERSATION and self.storage == self.Storage.PERSISTENT

    @property
    def version(self) -> tuple[int, int]:
        """The name of the transcript as it stands now. Caches and background writes carry and compare it."""
        return self.epoch, self.last_position
