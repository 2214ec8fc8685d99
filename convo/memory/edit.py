"""Edit memories on a person's behalf: state, correct, pin and approve them."""

from django.db import transaction
from django.utils import timezone

from convo import database
from convo.errors import MemoryNotAllowed, MemoryNotCurrent, NotFound
from convo.memory import screen
from convo.memory.facts import normalize_slot
from convo.models import Person, UserMemory

MAX_TEXT_LENGTH = 1000
Status = UserMemory.Status


@database.retry_conflicts
@transaction.atomic
def remember(person: Person, text: str, *, kind: str, slot: str | None = None) -> tuple[UserMemory, bool]:
    """Store a fact that the person states; return the memory and whether it is new.

    A fact that is known already stays as it is.
    """
    return _store(Person.objects.lock(person), text, kind=kind.strip().casefold(), slot=normalize_slot(slot))


@database.retry_conflicts
@transaction.atomic
def change(
    memory: UserMemory,
    *,
    text: str | None = None,
    pinned: bool | None = None,
    confidence: float | None = None,
    approve: bool = False,
) -> UserMemory:
    """Change a memory and return it. A new text makes a new memory, which supersedes the old one."""
    person = Person.objects.lock(memory.person)
    row = UserMemory.objects.filter(pk=memory.pk).first()
    if row is None or row.status == Status.FORGOTTEN:
        raise NotFound("There is no such memory.", param="memory")
    if row.status == Status.SUPERSEDED:
        raise MemoryNotCurrent
    if text is not None:
        row = _replace_text(person, row, text)
    if approve and row.status == Status.NEEDS_REVIEW:
        _activate(row)
    row.pinned = row.pinned if pinned is None else pinned
    row.confidence = row.confidence if confidence is None else confidence
    row.save(update_fields=["pinned", "confidence"])
    return row


def _replace_text(person: Person, row: UserMemory, text: str) -> UserMemory:
    if screen.text_key(person, text) == row.text_key:
        row.text = text
        row.save(update_fields=["text"])
        return row
    row.status, row.valid_to = Status.SUPERSEDED, timezone.now()
    row.save(update_fields=["status", "valid_to"])
    replacement, _ = _store(person, text, kind=row.kind, slot=row.slot, pinned=row.pinned)
    row.superseded_by = replacement
    row.save(update_fields=["superseded_by"])
    return replacement


def _store(
    person: Person, text: str, *, kind: str, slot: str | None, pinned: bool = False
) -> tuple[UserMemory, bool]:
    if screen.is_never_stored(person, text, kind):
        raise MemoryNotAllowed(param="text")
    key = screen.text_key(person, text)
    existing = (
        UserMemory.objects.filter(person=person, text_key=key).exclude(status=Status.SUPERSEDED).first()
    )
    if existing and existing.status != Status.FORGOTTEN:
        return existing, False
    if existing:
        # A forgotten fact is never learned again, but the person may state it again.
        existing.delete()
    memory = UserMemory(
        person=person,
        kind=kind,
        slot=slot,
        text=text,
        text_key=key,
        pinned=pinned,
        status=Status.NEEDS_REVIEW,
        source=UserMemory.Source.USER,
    )
    memory.save()
    if not screen.is_instruction(text):
        _activate(memory)
    return memory, True


def _activate(memory: UserMemory) -> None:
    if memory.slot is not None:
        rivals = UserMemory.objects.filter(person=memory.person_id, slot=memory.slot, status=Status.ACTIVE)
        rivals.update(status=Status.SUPERSEDED, valid_to=timezone.now(), superseded_by=memory)
    memory.status = Status.ACTIVE
    memory.save(update_fields=["status"])
