"""Join two people who turn out to be one: the facts and rules of one become those of the other."""

from collections.abc import Iterable

from convo.memory.screen import is_never_stored, text_key
from convo.memory.store import add_evidence, save_superseding
from convo.models import Evidence, IndexedMemory, Person, UserMemory

Status = UserMemory.Status


def merge_people(old_pk: int, person: Person) -> None:
    """Move the facts and rules of the person `old_pk` to this person; both rows must be locked.

    A fact that both have is kept once. What this person forgot or ruled out stays out, and of two facts that
    exclude each other the one stated later holds. What the other one forgot has no text left to move, and its
    messages teach nothing.
    """
    rules = Person.objects.values_list("never_store", flat=True).get(pk=old_pk)
    person.never_store = list(dict.fromkeys([*person.never_store, *rules]))
    # The new epoch discards facts that are being learned just now from messages read before this moment.
    person.epoch += 1
    person.save(update_fields=["never_store", "epoch"])
    facts = list(UserMemory.objects.filter(person=old_pk).exclude(status=Status.FORGOTTEN).order_by("pk"))
    duplicates = {memory.pk: duplicate for memory in facts if (duplicate := _duplicate_of(memory, person))}
    skipped = _keys_to_skip(facts, duplicates, person)
    facts_to_move = [memory for memory in facts if memory.pk not in skipped]
    merged = {
        memory.pk
        for memory in facts_to_move
        if memory.pk in duplicates and memory.status != Status.SUPERSEDED
    }
    for memory in facts_to_move:
        if memory.pk in merged:
            message_ids = Evidence.objects.filter(memory=memory).values_list("message", flat=True)
            add_evidence(duplicates[memory.pk], message_ids)
            continue
        if memory.superseded_by_id in merged:
            memory.superseded_by = duplicates[memory.superseded_by_id]
        _move(memory, person)


def _duplicate_of(memory: UserMemory, person: Person) -> UserMemory | None:
    rows = UserMemory.objects.filter(person=person, text_key=text_key(person, memory.text))
    return rows.exclude(status=Status.SUPERSEDED).first()


def _keys_to_skip(facts: Iterable[UserMemory], duplicates: dict[int, UserMemory], person: Person) -> set[int]:
    """Return the keys of facts that this person forgot or ruled out, and of those that they superseded."""
    forgotten_keys = {pk for pk, duplicate in duplicates.items() if duplicate.status == Status.FORGOTTEN}
    skipped = {
        memory.pk
        for memory in facts
        if memory.pk in forgotten_keys or is_never_stored(person, memory.text, memory.kind)
    }
    while predecessors := {memory.pk for memory in facts if memory.superseded_by_id in skipped} - skipped:
        skipped |= predecessors
    return skipped


def _move(memory: UserMemory, person: Person) -> None:
    memory.person, memory.text_key = person, text_key(person, memory.text)
    save_superseding(memory, memory.valid_from)
    IndexedMemory.objects.filter(memory=memory).update(person=person, text_key=memory.text_key)
