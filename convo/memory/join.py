"""Two people who turn out to be one: what is known about the first is known about the second."""

from collections.abc import Iterable

from convo.memory.known import put
from convo.memory.screen import is_never_stored, text_key
from convo.models import Evidence, IndexedMemory, Person, UserMemory

Status = UserMemory.Status


def take_over(old: int, person: Person) -> None:
    """Give this person the facts and rules of the other one, both of them locked; nothing is known twice.

    What the person forgot or ruled out stays forgotten; of two facts that exclude each other, the one that
    was said later holds. What the other one forgot leaves no words to move: its messages teach nothing.
    """
    rules = Person.objects.values_list("never_store", flat=True).get(pk=old)
    person.never_store = list(dict.fromkeys([*person.never_store, *rules]))
    # What is being learned just now was read before this moment, and is not written.
    person.epoch += 1
    person.save(update_fields=["never_store", "epoch"])
    facts = list(UserMemory.objects.filter(person=old).exclude(status=Status.FORGOTTEN).order_by("pk"))
    twins = {memory.pk: twin for memory in facts if (twin := _twin(memory, person))}
    left = _left(facts, twins, person)
    moved = [memory for memory in facts if memory.pk not in left]
    merged = {memory.pk for memory in moved if memory.pk in twins and memory.status != Status.SUPERSEDED}
    for memory in moved:
        if memory.pk in merged:
            _merge(memory, twins[memory.pk])
            continue
        if memory.superseded_by_id in merged:
            memory.superseded_by = twins[memory.superseded_by_id]
        _give(memory, person)


def _twin(memory: UserMemory, person: Person) -> UserMemory | None:
    """What this person knows, or has forgotten, that says the same."""
    same = UserMemory.objects.filter(person=person, text_key=text_key(person, memory.text))
    return same.exclude(status=Status.SUPERSEDED).first()


def _left(facts: Iterable[UserMemory], twins: dict[int, UserMemory], person: Person) -> set[int]:
    """The facts that this person forgot or ruled out, and those that they once replaced."""
    forgotten = {pk for pk, twin in twins.items() if twin.status == Status.FORGOTTEN}
    left = {
        memory.pk
        for memory in facts
        if memory.pk in forgotten or is_never_stored(person, memory.text, memory.kind)
    }
    while more := {memory.pk for memory in facts if memory.superseded_by_id in left} - left:
        left |= more
    return left


def _give(memory: UserMemory, person: Person) -> None:
    memory.person, memory.text_key = person, text_key(person, memory.text)
    put(memory, memory.valid_from)
    IndexedMemory.objects.filter(memory=memory).update(person=person, text_key=memory.text_key)


def _merge(memory: UserMemory, twin: UserMemory) -> None:
    """Let what is known already stand for this fact, and rest on its messages too."""
    rests_on = Evidence.objects.filter(memory=memory).values_list("message", flat=True)
    evidence = [Evidence(memory=twin, message_id=message) for message in rests_on]
    Evidence.objects.bulk_create(evidence, ignore_conflicts=True)
