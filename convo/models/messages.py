"""The messages of transcripts, and the summaries that stand for ranges of them."""

import secrets
from typing import TypedDict
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Left
from django.utils import timezone

from convo.models.sessions import Session
from convo.models.turns import Turn

_ID_PREFIX = {
    "message": "msg",
    "refusal": "msg",
    "function_call": "fc",
    "function_call_output": "fc",
    "reasoning": "rs",
    "compaction": "cmp",
}


class ContentPart(TypedDict, total=False):
    """A part of an item's content or output: a text, a refusal, an image or a file."""

    type: str
    text: str
    refusal: str
    # In the two fields for data, a mapping is the reference to a stored attachment.
    image_url: str | dict[str, object] | None
    detail: str
    file_id: str | None
    file_data: str | dict[str, object] | None
    filename: str


class Item(TypedDict, total=False):
    """A message in the form of OpenAI's Responses API, as `Message.item` holds it."""

    id: str
    type: str
    role: str
    status: str
    content: list[ContentPart] | None
    call_id: str
    name: str
    arguments: str
    output: str | list[ContentPart]
    summary: list[ContentPart]
    encrypted_content: str


def new_item_id(type: str) -> str:
    """Return a new id whose prefix tells the item's type, as clients of OpenAI's API expect."""
    return f"{prefix_of(type)}_{secrets.token_hex(24)}"


def prefix_of(type: str) -> str:
    return _ID_PREFIX.get(type, "item")


class MessageQuerySet(models.QuerySet["Message"]):
    def transcript(self, session: Session | UUID) -> "MessageQuerySet":
        """Return the messages that count today: on the active branch, not erased, by position."""
        return self.filter(session=session, thread="", active=True, erased_at=None).order_by("position")

    def beginnings(self, length: int) -> list["Message"]:
        """Return these messages, for reading only, with the first `length` characters of each text.

        A message of 20 MB would otherwise be in memory several times, for the sake of its first page.
        """
        rows = list(self.defer("content").annotate(beginning=Left("content", length)))
        for row in rows:
            row.content = vars(row)["beginning"]
        return rows


class Message(models.Model):
    """One entry of a transcript. Rows are inserted once, whole; a deleted one leaves a tombstone."""

    class Role(models.TextChoices):
        USER = "user"
        ASSISTANT = "assistant"
        TOOL = "tool"
        SYSTEM = "system"
        DEVELOPER = "developer"

    session = models.ForeignKey(Session, models.CASCADE, related_name="messages", db_index=False)
    turn = models.ForeignKey(Turn, models.CASCADE, related_name="messages")
    position = models.PositiveBigIntegerField()
    thread = models.CharField(max_length=100, blank=True, help_text="Empty: shared by all agents.")
    item_id = models.CharField(max_length=80)
    type = models.CharField(max_length=40, default="message")
    role = models.CharField(max_length=9, choices=Role)
    name = models.CharField(max_length=200, blank=True)
    agent = models.CharField(max_length=100, blank=True)
    content = models.TextField(blank=True)
    item: "models.JSONField[object, Item | None]" = models.JSONField(
        null=True, blank=True, help_text="The item verbatim, when it is not plain text."
    )
    tokens = models.PositiveIntegerField(default=0)
    active = models.BooleanField(default=True, help_text="On the branch that is shown.")
    recallable = models.BooleanField(default=True)
    erased_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = MessageQuerySet.as_manager()

    class Meta:
        # Staff without this permission can manage conversations, but not read them.
        permissions = [("view_content", "Can read what people said")]
        constraints = [
            models.UniqueConstraint(fields=["session", "position"], name="one_message_per_position"),
            # It begins with the id, because items are also looked for in all sessions of an owner.
            models.UniqueConstraint(fields=["item_id", "session"], name="one_message_per_item_id"),
        ]
        indexes = [
            # The transcript and nothing else: PostgreSQL then reads its end, also before it has statistics.
            models.Index(
                fields=["session", "position"],
                condition=Q(thread="", active=True, erased_at=None),
                name="message_transcript",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} at {self.position}"

    @property
    def reply_text(self) -> str:
        """The text that was streamed: the arguments of a call, the text of any other item."""
        item = self.item or {}
        if self.type == "reasoning":
            return "".join(part["text"] for part in item.get("content") or ())
        return str(item.get("arguments", "")) if self.type == "function_call" else self.content

    @property
    def call_id(self) -> str:
        return str((self.item or {}).get("call_id", ""))


class SummaryQuerySet(models.QuerySet["Summary"]):
    def fresh(self, session: Session) -> "SummaryQuerySet":
        """Return the summaries that are not stale, newest first; the newest includes all before it."""
        return self.filter(session=session, thread="", stale=False).order_by("-to_position")

    def mark_stale(self, session: Session, position: int, *, erase: bool = False) -> None:
        """Mark the summaries that reach this position as stale; with `erase`, delete their texts as well."""
        summaries = self.filter(session=session, to_position__gte=position)
        summaries.filter(stale=False).update(stale=True)
        if erase:
            summaries.update(text="")


class Summary(models.Model):
    """A text that stands for a range of messages. New summaries build on old ones; none is overwritten."""

    class Source(models.TextChoices):
        MODEL = "model"
        EXTRACTIVE = "extractive"

    session = models.ForeignKey(Session, models.CASCADE, related_name="summaries")
    thread = models.CharField(max_length=100, blank=True)
    from_position = models.PositiveBigIntegerField()
    to_position = models.PositiveBigIntegerField()
    text = models.TextField()
    previous = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="next")
    source = models.CharField(max_length=10, choices=Source)
    model = models.CharField(max_length=200, blank=True)
    prompt_version = models.CharField(max_length=20, blank=True)
    tokens = models.PositiveIntegerField(default=0)
    stale = models.BooleanField(default=False, help_text="A message in its range has changed since.")
    created_at = models.DateTimeField(default=timezone.now)

    objects = SummaryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "summaries"
        constraints = [
            models.UniqueConstraint(
                fields=["session", "thread", "to_position"],
                condition=Q(stale=False),
                name="one_fresh_summary_per_end",
            ),
            models.CheckConstraint(
                condition=Q(from_position__lte=F("to_position")), name="summary_range_in_order"
            ),
        ]

    def __str__(self) -> str:
        return f"summary of {self.from_position}–{self.to_position}"
