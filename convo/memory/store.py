"""Store learned facts about a person: each of them once, and later statements in place of earlier ones."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

from convo.memory.facts import Fact
from convo.memory.screen import is_never_stored, text_key
from convo.models import Evidence, Message, Person, UserMemory

logger = logging.getLogger(__name__)

Status = UserMemory.Status


def learn_facts(person: Person, facts: Sequence[Fact]) -> int:
    """Store these facts about a locked person; return how many of them are new."""
    new = [memory for fact in facts if (memory := _learn_fact(person, fact))]
    for memory in new:
        logger.info(
            "learned memory %s from a turn: source %s, status %s", memory.key, memory.source, memory.status
        )
    return len(new)


def add_copies_as_evidence(person: Person, messages: Sequence[Message]) -> None:
    """Add these copies of messages to the evidence of what was learned from the originals."""
    copies = {message.item_id: message for message in messages}
    originals = Evidence.objects.filter(message__item_id__in=copies, memory__person=person)
    rows = (
        originals.exclude(memory__status=Status.FORGOTTEN)
        .values_list("memory", "message__item_id")
        .distinct()
    )
    evidence = [Evidence(memory_id=memory, message=copies[item_id]) for memory, item_id in rows]
    Evidence.objects.bulk_create(evidence, ignore_conflicts=True)


def _learn_fact(person: Person, fact: Fact) -> UserMemory | None:
    if is_never_stored(person, fact.text, fact.kind):
        return None
    key, message_ids = text_key(person, fact.text), [message.pk for message in fact.evidence]
    rows = UserMemory.objects.filter(person=person, text_key=key)
    if rows.filter(evidence__message__in=fact.evidence).exists():
        # This message has taught this text before. It adds nothing, even if the fact was corrected since.
        return None
    if existing := rows.exclude(status=Status.SUPERSEDED).first():
        if existing.status != Status.FORGOTTEN:
            add_evidence(existing, message_ids)
        return None
    stated_at = max(message.created_at for message in fact.evidence)
    memory = UserMemory(
        person=person,
        kind=fact.kind,
        slot=fact.slot,
        text=fact.text,
        text_key=key,
        confidence=fact.confidence,
        status=Status.NEEDS_REVIEW if fact.needs_review else Status.ACTIVE,
        valid_from=stated_at,
        source=fact.source,
    )
    save_superseding(memory, stated_at)
    add_evidence(memory, message_ids)
    return memory


def save_superseding(memory: UserMemory, stated_at: datetime) -> None:
    """Save a memory; of two facts that exclude each other, the one stated later holds."""
    rival = None
    if memory.slot is not None and memory.status == Status.ACTIVE:
        active_in_slot = UserMemory.objects.filter(
            person=memory.person, slot=memory.slot, status=Status.ACTIVE
        )
        rival = active_in_slot.first()
    if rival and rival.valid_from > stated_at:
        memory.status, memory.valid_to, memory.superseded_by = Status.SUPERSEDED, rival.valid_from, rival
        rival = None
    if rival:
        rival.status, rival.valid_to = Status.SUPERSEDED, stated_at
        rival.save(update_fields=["status", "valid_to"])
        memory.pinned = memory.pinned or rival.pinned
    memory.save()
    if rival:
        rival.superseded_by = memory
        rival.save(update_fields=["superseded_by"])


def add_evidence(memory: UserMemory, message_ids: Iterable[int]) -> None:
    rows = [Evidence(memory=memory, message_id=message_id) for message_id in message_ids]
    Evidence.objects.bulk_create(rows, ignore_conflicts=True)
