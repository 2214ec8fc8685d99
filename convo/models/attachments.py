"""Images and files that people hand over, each kept once, and the messages that they belong to."""

from django.db import models
from django.utils import timezone

from convo.models.messages import Message
from convo.models.people import Person


class Attachment(models.Model):
    """A file as it came. It lies in the database, where every process finds it and one backup holds it."""

    person = models.ForeignKey(Person, models.CASCADE, related_name="attachments")
    sha256 = models.CharField(max_length=64)
    mime = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField()
    data = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["person", "sha256", "mime"], name="one_attachment_per_content")
        ]

    def __str__(self) -> str:
        return f"{self.mime}, {self.size} bytes"


class Attached(models.Model):
    """This message shows this attachment; what no message shows is removed."""

    message = models.ForeignKey(Message, models.CASCADE, related_name="attached")
    attachment = models.ForeignKey(Attachment, models.CASCADE, related_name="shown_in")

    class Meta:
        verbose_name_plural = "attached"
        constraints = [
            models.UniqueConstraint(fields=["message", "attachment"], name="one_use_per_attachment")
        ]

    def __str__(self) -> str:
        return f"{self.attachment} in {self.message}"
