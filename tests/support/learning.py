"""Turns that teach something, and what is known afterwards."""

from typing import Any

from convo import memory, turns
from convo.history import NewMessage
from convo.models import Evidence, Message, Person, Session, UserMemory

Status = UserMemory.Status

HOME = "Lives in Oslo"


def new_session(person: Person) -> Session:
    return Session.objects.create(owner=person.owner, person=person, agent="assistant")


def tell(session: Session, *questions: str) -> list[Message]:
    """Say this, and be answered with the same words; what was said of the user comes back."""
    drafts = [NewMessage(role=role, content=text) for text in questions for role in ("user", "assistant")]
    return [row for row in turns.record(session, drafts) if row.role == "user"]


def learned(person: Person, text: str, *messages: Message, **fields: Any) -> UserMemory:
    """A fact as a model learned it from these messages."""
    made = UserMemory.objects.create(
        person=person,
        text=text,
        text_key=memory.text_key(person, text),
        source=UserMemory.Source.MODEL,
        **{"kind": "fact", **fields},
    )
    Evidence.objects.bulk_create([Evidence(memory=made, message=message) for message in messages])
    return made


def known_memories(person: Person) -> list[UserMemory]:
    return list(UserMemory.objects.for_prompt(person))


def known(person: Person) -> list[str]:
    return [row.text for row in known_memories(person)]
