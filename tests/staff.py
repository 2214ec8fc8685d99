"""The staff that the tests of the admin send there, and where they go."""

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.urls import reverse

from convo.models import (
    AgentVersion,
    ApiKey,
    Attachment,
    Feedback,
    IdempotencyRecord,
    Message,
    Person,
    Session,
    Summary,
    Turn,
    TurnRequest,
    UserMemory,
    Work,
)

TABLES = [
    *(
        AgentVersion,
        ApiKey,
        TurnRequest,
        Attachment,
        Feedback,
        IdempotencyRecord,
        Message,
        Person,
        Session,
        Summary,
    ),
    *(Turn, UserMemory, Work),
]
READS = "message.view_content"


def staff(*permissions: str, name: str = "staff") -> Client:
    """Somebody of the staff who may do this, such as "session.change_session", and look at every table."""
    user = get_user_model().objects.create_user(name, is_staff=True)
    for granted in (
        *permissions,
        *(f"{table.__name__.lower()}.view_{table.__name__.lower()}" for table in TABLES),
    ):
        model, _, codename = granted.partition(".")
        kind, _ = ContentType.objects.get_or_create(app_label="convo", model=model)
        # A test before this one may have emptied the table.
        allowed = Permission.objects.get_or_create(content_type=kind, codename=codename)[0]
        user.user_permissions.add(allowed)
    client = Client()
    client.force_login(user)
    return client


def list_of(table: Any) -> str:
    return reverse(f"admin:convo_{table._meta.model_name}_changelist")


def page_of(row: Any) -> str:
    return reverse(f"admin:convo_{row._meta.model_name}_change", args=[row.pk])


def read(client: Client, at: str, **asked: Any) -> str:
    """The page at this address; anything but a page fails the test."""
    answer = client.get(at, asked)
    assert answer.status_code == 200, (at, asked, answer.status_code)
    return answer.content.decode()


def act(client: Client, action: str, *rows: Any, **form: Any) -> Any:
    """What a list answers to an action on these rows; with `post="yes"` one is sure."""
    chosen = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(list_of(type(rows[0])), {**chosen, **form})
