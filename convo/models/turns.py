"""Turns, each one question and the reply to it, and the agents' configurations of the time."""

import uuid
from typing import NotRequired, Required, TypedDict

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from convo.models.sessions import Session


class ItemOutline(TypedDict):
    """An item of a reply without its text, as `Turn.chunks` holds it."""

    index: int
    kind: str
    chunk_lengths: list[int]
    call_id: NotRequired[str]
    name: NotRequired[str]
    lost: NotRequired[str]  # the text of an item that is not stored


class ManifestSource(TypedDict, total=False):
    """A source of a prompt: a memory, an older message, or a summary. A replay adds its text."""

    memory: str
    evidence: "list[int] | list[ManifestSource]"  # ids of messages; in a replay, their positions
    session: str
    position: int
    summary: int
    score: float
    agent: str
    role: str
    text: str | None


_Positions = TypedDict("_Positions", {"from": int, "to": int}, total=False)


class ManifestPart(_Positions):
    """A part of a prompt, without its text: its tokens, its sources, and why it is there."""

    part: str
    why: str
    tokens: int
    messages: NotRequired[int]
    sources: NotRequired[list[ManifestSource]]


class ManifestOmission(_Positions, total=False):
    """Something that was left out of a prompt, and why."""

    why: Required[str]
    messages: int
    tokens: int
    sources: list[ManifestSource]


class Manifest(TypedDict):
    """The record of a prompt, as `Turn.manifest` holds it."""

    budget: int
    total: int
    counted_by: str
    reply_overhead: int
    parts: list[ManifestPart]
    left_out: list[ManifestOmission]
    finish_word: NotRequired[str]  # the model server's own word for the end of its reply, if it is unknown


class AgentVersion(models.Model):
    """An agent's configuration at some time, so that an old turn can show which instructions it had."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    name = models.CharField(max_length=100)
    config = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.name} @ {self.sha256[:8]}"


class TurnQuerySet(models.QuerySet["Turn"]):
    def running(self) -> "TurnQuerySet":
        return self.filter(status=Turn.Status.RUNNING)

    def queued(self) -> "TurnQuerySet":
        return self.filter(status=Turn.Status.QUEUED)

    def unfinished(self) -> "TurnQuerySet":
        return self.filter(status__in=[Turn.Status.QUEUED, Turn.Status.RUNNING])

    def ended(self) -> "TurnQuerySet":
        return self.exclude(status__in=[Turn.Status.QUEUED, Turn.Status.RUNNING])

    def ahead_of(self, turn: "Turn") -> "TurnQuerySet":
        return self.unfinished().filter(session=turn.session_id, id__lt=turn.pk)

    def orphaned(self) -> "TurnQuerySet":
        """Return queued turns that no process waits with: theirs died, and another one may start them."""
        return self.queued().filter(worker="")

    def expired(self) -> "TurnQuerySet":
        return self.unfinished().filter(lease_until__lt=Now())


class Turn(models.Model):
    """One question and the reply to it.

    Its status goes queued → running → complete | partial | failed | cancelled and never back: it is the fence
    that lets only one process end a turn.
    """

    class Kind(models.TextChoices):
        REPLY = "reply"
        RECORDED = "recorded"

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        COMPLETE = "complete"
        PARTIAL = "partial"
        FAILED = "failed"
        CANCELLED = "cancelled"

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    session = models.ForeignKey(Session, models.CASCADE, related_name="turns", db_index=False)
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.REPLY)
    status = models.CharField(max_length=9, choices=Status)
    # DO_NOTHING: a chain of ten thousand parents is deleted in one statement, with its session's other rows.
    parent = models.ForeignKey(
        "self", models.DO_NOTHING, null=True, blank=True, related_name="children", db_index=False
    )
    question_turn = models.ForeignKey(
        "self", models.DO_NOTHING, null=True, blank=True, related_name="answers", db_index=False
    )
    agent = models.CharField(max_length=100)
    # No index: agent versions are never deleted, and nobody looks for their turns.
    agent_version = models.ForeignKey(AgentVersion, models.PROTECT, null=True, blank=True, db_index=False)
    model = models.CharField(max_length=200, blank=True)
    route_reason = models.CharField(max_length=200, blank=True)
    input = models.JSONField(default=list, blank=True, help_text="The question of a queued turn.")
    epoch = models.PositiveIntegerField(default=0, help_text="The session's epoch when this turn began.")
    draft = models.TextField(blank=True, help_text="The reply so far; its rows are written once, at the end.")
    chunks: "models.JSONField[object, list[ItemOutline]]" = models.JSONField(
        default=list, blank=True, help_text="Each item of the reply: its kind, and the lengths of its chunks."
    )
    error = models.JSONField(null=True, blank=True)
    manifest: "models.JSONField[object, Manifest | None]" = models.JSONField(
        null=True, blank=True, help_text="The parts of the prompt, with reasons; no text."
    )
    gist = models.TextField(blank=True)
    input_tokens = models.PositiveIntegerField(null=True, blank=True)
    output_tokens = models.PositiveIntegerField(null=True, blank=True)
    cached_tokens = models.PositiveIntegerField(null=True, blank=True)
    cache_hit = models.BooleanField(
        null=True, blank=True, help_text="Whether the cache had the newest messages. Null: it was not read."
    )
    cost = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    first_token_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    indexed_at = models.DateTimeField(null=True, blank=True)
    learned_at = models.DateTimeField(null=True, blank=True)

    objects = TurnQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "number"], name="one_turn_per_number"),
            models.UniqueConstraint(
                fields=["session"], condition=Q(status="running"), name="one_running_turn_per_session"
            ),
            models.CheckConstraint(
                condition=~Q(status="running") | Q(lease_until__isnull=False), name="running_turn_has_lease"
            ),
        ]
        # No index has a column that changes while a turn runs: PostgreSQL writes drafts and leases
        # without touching the indexes (HOT updates).
        indexes = [
            # Every write looks for an unfinished turn of its session, and a sweep reads all of these few.
            models.Index(
                fields=["session", "id"],
                condition=Q(status__in=["queued", "running"]),
                name="turn_unfinished",
            ),
            # The siblings of a turn, and its children when it is deleted.
            models.Index(fields=["parent", "session"], name="turn_children"),
            # The other answers to a question, when it is shown or deleted.
            models.Index(
                fields=["question_turn"], condition=Q(question_turn__isnull=False), name="turn_answers"
            ),
            # The work lists of the sweeps, empty when nothing waits.
            models.Index(fields=["id"], condition=Q(indexed_at__isnull=True), name="turn_unindexed"),
            models.Index(fields=["id"], condition=Q(learned_at__isnull=True), name="turn_unlearned"),
            # The turns of a day, to count usage and in the admin's lists.
            models.Index(
                fields=["started_at"], condition=Q(started_at__isnull=False), name="turn_by_beginning"
            ),
        ]

    def __str__(self) -> str:
        return f"turn {self.number} of {self.session_id}"

    @property
    def memory_keys(self) -> set[str]:
        parts = self.manifest["parts"] if self.manifest else ()
        sources = (source for part in parts for source in part.get("sources", ()))
        return {source["memory"] for source in sources if "memory" in source}

    @property
    def has_ended(self) -> bool:
        return self.status not in {self.Status.QUEUED, self.Status.RUNNING}
