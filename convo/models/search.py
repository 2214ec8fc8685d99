"""The search index of messages and memories: droppable, rebuilt by `manage.py reindex`, read by search."""

import hashlib

from django.conf import settings
from django.db import models
from django.db.models import Q

from convo.models.memories import UserMemory
from convo.models.messages import Message
from convo.models.people import Person
from convo.models.sessions import Session


def scope_key_of(person: Person, session: Session) -> str:
    """Return the search scope of a session's messages: its person, or for nobody the session itself."""
    return f"p{person.pk}" if person.ref else f"s{session.pk.hex}"


def owner_key_of(owner_pk: object) -> str:
    """Return the search scope of all that is an owner's: hashed, as a user model may have any kind of key."""
    return "o" + hashlib.blake2s(str(owner_pk).encode(), digest_size=8).hexdigest()


class IndexedMessage(models.Model):
    """A message as search knows it. Triggers, or an index over a function, keep the text index in step."""

    message = models.OneToOneField(Message, models.CASCADE, primary_key=True, related_name="indexed")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    person = models.ForeignKey(Person, models.CASCADE, related_name="+")
    session = models.ForeignKey(Session, models.CASCADE, related_name="+", db_index=False)
    position = models.PositiveBigIntegerField()
    scope_key = models.CharField(max_length=40, help_text="The person, or for nobody the session.")
    owner_key = models.CharField(max_length=40, help_text="A hash of the owner's primary key.")
    statement_terms = models.TextField(blank=True, help_text="The stemmed words of its statements.")
    question_terms = models.TextField(blank=True, help_text="The stemmed words of its questions.")
    date_terms = models.TextField(blank=True, help_text="The days and months of its date and in its text.")
    vector = models.BinaryField(null=True)
    model = models.CharField(max_length=100, blank=True)
    dim = models.PositiveSmallIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["session", "position"], name="indexed_by_position"),
            models.Index(fields=["message"], condition=Q(vector__isnull=True), name="indexed_without_vector"),
        ]

    def __str__(self) -> str:
        return f"index of message {self.message_id}"


class IndexedMemory(models.Model):
    """A memory as search knows it. A person has a few hundred, so no text index is needed."""

    memory = models.OneToOneField(UserMemory, models.CASCADE, primary_key=True, related_name="indexed")
    person = models.ForeignKey(Person, models.CASCADE, related_name="+")
    text_key = models.CharField(max_length=64, help_text="The text_key of the memory when it was indexed.")
    terms = models.TextField(blank=True, help_text="The stemmed words of its text.")
    vector = models.BinaryField(null=True)
    model = models.CharField(max_length=100, blank=True)
    dim = models.PositiveSmallIntegerField(default=0)

    class Meta:
        verbose_name_plural = "indexed memories"

    def __str__(self) -> str:
        return f"index of memory {self.memory_id}"
