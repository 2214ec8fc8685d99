"""What a person does about their own memories: adds one, corrects it, keeps it at hand, lets it be used."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from convo import database
from convo.errors import MemoryNotCurrent, NeverStored, NotFound
from convo.memory import screen
from convo.memory.facts import slot_name
from convo.models import Person, UserMemory

LONGEST_TEXT = 1000
Status = UserMemory.Status


@database.retried
@transaction.atomic
def remember(person: Person, text: str, *, kind: str, slot: str | None = None) -> tuple[UserMemory, bool]:
    """A fact that the person states themself, and whether it is new; one that is known stays as it is."""
    return _put(Person.objects.locked(person), text, kind=kind.strip().casefold(), slot=slot_name(slot))


@database.retried
@transaction.atomic
def change(
    memory: UserMemory,
    *,
    text: str | None = None,
    pinned: bool | None = None,
    confidence: float | None = None,
    approve: bool = False,
) -> UserMemory:
    """The fact as it is after this change: with another text it is a new one, which replaces the old."""
    person = Person.objects.locked(memory.person)
    row = UserMemory.objects.filter(pk=memory.pk).first()
    if row is None or row.status == Status.FORGOTTEN:
        raise NotFound("There is no such memory.", param="memory")
    if row.status == Status.SUPERSEDED:
        raise MemoryNotCurrent
    if text is not None:
        row = _corrected(person, row, text)
    if approve and row.status == Status.NEEDS_REVIEW:
        _activate(row)
    row.pinned = row.pinned if pinned is None else pinned
    row.confidence = row.confidence if confidence is None else confidence
    row.save(update_fields=["pinned", "confidence"])
    return row


def _corrected(person: Person, row: UserMemory, text: str) -> UserMemory:
    if screen.text_key(person, text) == row.text_key:
        row.text = text
        row.save(update_fields=["text"])
        return row
    row.status, row.valid_to = Status.SUPERSEDED, timezone.now()
    row.save(update_fields=["status", "valid_to"])
    made, _ = _put(person, text, kind=row.kind, slot=row.slot, pinned=row.pinned)
    row.superseded_by = made
    row.save(update_fields=["superseded_by"])
    return made


def _put(person: Person, text: str, **fields: Any) -> tuple[UserMemory, bool]:
    if screen.is_never_stored(person, text, fields["kind"]):
        raise NeverStored(param="text")
    key = screen.text_key(person, text)
    known = UserMemory.objects.filter(person=person, text_key=key).exclude(status=Status.SUPERSEDED).first()
    if known and known.status != Status.FORGOTTEN:
        return known, False
    if known:
        # Nobody learned it again: the person says it themself.
        known.delete()
    made = UserMemory(
        person=person,
        text=text,
        text_key=key,
        status=Status.NEEDS_REVIEW,
        source=UserMemory.Source.USER,
        **fields,
    )
    made.save()
    if not screen.is_instruction(text):
        _activate(made)
    return made, True


def _activate(memory: UserMemory) -> None:
    """Let this fact be used, in the place of the one that it excludes."""
    if memory.slot is not None:
        others = UserMemory.objects.filter(person=memory.person_id, slot=memory.slot, status=Status.ACTIVE)
        others.update(status=Status.SUPERSEDED, valid_to=timezone.now(), superseded_by=memory)
    memory.status = Status.ACTIVE
    memory.save(update_fields=["status"])
