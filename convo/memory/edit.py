"""What a person does about their own memories: adds one, corrects it, keeps it at hand, lets it be used."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from convo import database
from convo.errors import InvalidRequest, MemoryNotCurrent, NeverStored, NotFound
from convo.memory import screen
from convo.memory.facts import slot_name
from convo.models import Evidence, Person, UserMemory

LONGEST_TEXT = 1000
LONGEST_RULE = 200
MOST_RULES = 50
Status = UserMemory.Status


@database.retried
@transaction.atomic
def remember(person: Person, text: str, *, kind: str, slot: str | None = None) -> tuple[UserMemory, bool]:
    """A fact that the person states themself, and whether it is new; one that is known stays as it is."""
    return _put(_locked(person), text, kind=kind.strip().casefold(), slot=slot_name(slot))


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
    person = _locked(memory.person)
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


@database.retried
@transaction.atomic
def set_rules(person: Person, never_store: Sequence[str]) -> Person:
    """Set what must never be remembered about this person, from now on."""
    if len(never_store) > MOST_RULES:
        raise InvalidRequest(f"A person has at most {MOST_RULES} rules.", param="rules")
    for number, rule in enumerate(never_store):
        # A rule without a word would rule out nothing, or everything.
        if len(rule) > LONGEST_RULE or not any(sign.isalnum() for sign in rule.removeprefix(screen.KIND)):
            raise InvalidRequest(
                f"A rule is words, or {screen.KIND!r} and a kind, of at most {LONGEST_RULE} characters.",
                param=f"rules[{number}]",
            )
    locked = _locked(person)
    locked.never_store = list(never_store)
    locked.save(update_fields=["never_store"])
    return locked


def history(memory: UserMemory) -> list[UserMemory]:
    """The fact through time, oldest first: what it replaced, and what replaced it."""
    everything = UserMemory.objects.filter(person=memory.person_id).select_related("person", "superseded_by")
    found: dict[int, UserMemory] = {}
    newest = list(everything.filter(pk=memory.pk))
    while newest:
        found |= {row.pk: row for row in newest}
        replacing = [row.superseded_by_id for row in newest]
        linked = everything.filter(Q(pk__in=replacing) | Q(superseded_by__in=newest))
        newest = list(linked.exclude(pk__in=found))
    return sorted(found.values(), key=lambda row: (row.valid_from, row.pk))


def _locked(person: Person) -> Person:
    """The person's row, made if need be and locked until the transaction ends: who learns locks it too."""
    row = person if person.pk else Person.objects.named(person.owner, person.ref)
    return Person.objects.select_for_update(no_key=True).get(pk=row.pk)


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


def evidence(memory: UserMemory) -> list[Evidence]:
    """The messages that the fact rests on, in the order in which they were said."""
    found = Evidence.objects.filter(memory=memory, message__erased_at=None)
    return list(found.select_related("message__turn").order_by("message__created_at", "message__position"))
