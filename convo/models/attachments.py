"""Images and files that people send, each stored once per person, and the messages that show them."""

from django.db import models
from django.utils import timezone

from convo.models.messages import Message
from convo.models.people import Person


class Attachment(models.Model):
    """A file as it was sent. It is in the database, where every process finds it and one backup holds it."""

    person = models.ForeignKey(Person, models.CASCADE, related_name="attachments", db_index=False)
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


class AttachmentUse(models.Model):
    """The use of an attachment by a message. An attachment that no message shows is deleted."""

    message = models.ForeignKey(Message, models.CASCADE, related_name="attachment_uses", db_index=False)
    attachment = models.ForeignKey(Attachment, models.CASCADE, related_name="uses")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["message", "attachment"], name="one_use_per_attachment")
        ]

    def __str__(self) -> str:
        return f"{self.attachment} in {self.message}"
