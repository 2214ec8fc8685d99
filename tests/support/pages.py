"""The pages as a visitor without JavaScript gets them."""

from django.contrib.auth.models import User
from django.test import Client

from convo import turns
from convo.history import NewMessage
from convo.models import ME, Person, Session


def conversation(owner: User, **fields: object) -> Session:
    person = Person.objects.get_or_create_by_ref(owner, ME)
    return Session.objects.create(owner=owner, person=person, agent="assistant", **fields)


def told(session: Session, count: int) -> None:
    """That many messages of the user's, without a model."""
    turns.record(session, [NewMessage(role="user", content=f"message {n}") for n in range(1, count + 1)])


def read(client: Client, address: str, status: int = 200) -> str:
    response = client.get(address)
    assert response.status_code == status
    return response.content.decode()
