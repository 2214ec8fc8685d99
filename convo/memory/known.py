"""What is known about a person: nothing twice, and what was said later in the place of what it corrects."""

import logging
from collections.abc import Sequence
from datetime import datetime

from convo.memory.facts import Fact
from convo.memory.screen import is_never_stored, text_key
from convo.models import Evidence, Message, Person, UserMemory

logger = logging.getLogger(__name__)

Status = UserMemory.Status


def known(person: Person) -> list[UserMemory]:
    """What may be told to a model about this person, pinned facts first."""
    return list(UserMemory.objects.known(person))


def learn_facts(person: Person, facts: Sequence[Fact]) -> int:
    """Remember these facts about a locked person; how many of them are new."""
    new = [memory for fact in facts if (memory := _learn(person, fact))]
    for memory in new:
        logger.info("memory %s: %s, %s, from a turn", memory.key, memory.source, memory.status)
    return len(new)


def rest_on_copies(person: Person, messages: Sequence[Message]) -> None:
    """Let what was learned from the originals of these messages rest on them as well."""
    copies = {message.item_id: message for message in messages}
    taught = Evidence.objects.filter(message__item_id__in=copies, memory__person=person)
    rows = (
        taught.exclude(memory__status=Status.FORGOTTEN).values_list("memory", "message__item_id").distinct()
    )
    evidence = [Evidence(memory_id=memory, message=copies[item_id]) for memory, item_id in rows]
    Evidence.objects.bulk_create(evidence, ignore_conflicts=True)


def _learn(person: Person, fact: Fact) -> UserMemory | None:
    if is_never_stored(person, fact.text, fact.kind):
        return None
    key = text_key(person, fact.text)
    rows = UserMemory.objects.filter(person=person, text_key=key)
    if rows.filter(evidence__message__in=fact.evidence).exists():
        # The same words of the same message, learned once more: also when they were corrected since.
        return None
    if known := rows.exclude(status=Status.SUPERSEDED).first():
        if known.status != Status.FORGOTTEN:
            _rests_on(known, fact)
        return None
    said = max(message.created_at for message in fact.evidence)
    memory = UserMemory(
        person=person,
        kind=fact.kind,
        slot=fact.slot,
        text=fact.text,
        text_key=key,
        confidence=fact.confidence,
        status=Status.NEEDS_REVIEW if fact.doubtful else Status.ACTIVE,
        valid_from=said,
        source=fact.source,
    )
    put(memory, said)
    _rests_on(memory, fact)
    return memory


def put(memory: UserMemory, said: datetime) -> None:
    """Save it; of two facts that exclude each other, the one that was said later holds."""
    rival = None
    if memory.slot is not None and memory.status == Status.ACTIVE:
        holding = UserMemory.objects.filter(person=memory.person, slot=memory.slot, status=Status.ACTIVE)
        rival = holding.first()
    if rival and rival.valid_from > said:
        memory.status, memory.valid_to, memory.superseded_by = Status.SUPERSEDED, rival.valid_from, rival
        rival = None
    if rival:
        rival.status, rival.valid_to = Status.SUPERSEDED, said
        rival.save(update_fields=["status", "valid_to"])
        memory.pinned = memory.pinned or rival.pinned
    memory.save()
    if rival:
        rival.superseded_by = memory
        rival.save(update_fields=["superseded_by"])


def _rests_on(memory: UserMemory, fact: Fact) -> None:
    rows = [Evidence(memory=memory, message=message) for message in fact.evidence]
    Evidence.objects.bulk_create(rows, ignore_conflicts=True)
