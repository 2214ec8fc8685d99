"""A conversation to look at in the admin."""

from typing import Any

from convo import turns
from convo.history import NewMessage
from convo.models import Person, Session


def talk(person: Person, *questions: str, **fields: Any) -> Session:
    """A conversation in which each of these was said and said back."""
    session = Session.objects.create(owner=person.owner, person=person, agent="assistant", **fields)
    drafts = [NewMessage(role=role, content=text) for text in questions for role in ("user", "assistant")]
    turns.record(session, drafts)
    return Session.objects.get(pk=session.pk)
