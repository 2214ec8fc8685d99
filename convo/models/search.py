"""The index of what was said and what is known: droppable, rebuilt by `manage.py reindex`, read by search."""

import hashlib

from django.conf import settings
from django.db import models
from django.db.models import Q

from convo.models.memories import UserMemory
from convo.models.messages import Message
from convo.models.people import Person
from convo.models.sessions import Session


def place_of(person: Person, session: Session) -> str:
    """Under which words of this session are found: its person's, or, of nobody's, its own."""
    return f"p{person.pk}" if person.ref else f"s{session.pk.hex}"


def wide_place(owner_pk: object) -> str:
    """Under which all words of an owner's are found; a user model may have keys of any kind."""
    return "o" + hashlib.blake2s(str(owner_pk).encode(), digest_size=8).hexdigest()


class IndexedMessage(models.Model):
    """A message as search knows it. The database's text index is kept in step by migration 0004."""

    message = models.OneToOneField(Message, models.CASCADE, primary_key=True, related_name="indexed")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    person = models.ForeignKey(Person, models.CASCADE, related_name="+")
    session = models.ForeignKey(Session, models.CASCADE, related_name="+", db_index=False)
    position = models.PositiveBigIntegerField()
    place = models.CharField(max_length=40, help_text="Where search meets it: a person, or nobody's session.")
    wide = models.CharField(max_length=40, help_text="Where search meets it that asks for all of an owner's.")
    words = models.TextField(blank=True, help_text="What it states, stemmed.")
    asked = models.TextField(blank=True, help_text="What it asks of the other, stemmed.")
    days = models.TextField(blank=True, help_text="Days and months that it is from, or speaks of.")
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
    """A memory as search knows it. A person has some hundred, so no text index is needed."""

    memory = models.OneToOneField(UserMemory, models.CASCADE, primary_key=True, related_name="indexed")
    person = models.ForeignKey(Person, models.CASCADE, related_name="+")
    text_key = models.CharField(max_length=64, help_text="Of the text that was indexed.")
    words = models.TextField(blank=True)
    vector = models.BinaryField(null=True)
    model = models.CharField(max_length=100, blank=True)
    dim = models.PositiveSmallIntegerField(default=0)

    class Meta:
        verbose_name_plural = "indexed memories"

    def __str__(self) -> str:
        return f"index of memory {self.memory_id}"
