"""Visitors without an account: made on their first message, and what they leave to the account they take."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from convo import database, history, memory
from convo.models import (
    ApiKey,
    Attachment,
    Idempotency,
    IndexedMessage,
    Person,
    Session,
    place_of,
    wide_place,
)

_NAME = "guest-"


def new_guest() -> Any:
    """A user whom nobody can sign in as: the cookie alone leads back to it."""
    model = get_user_model()
    guest = model(**{model.USERNAME_FIELD: _NAME + secrets.token_hex(8)})
    guest.set_unusable_password()
    guest.save()
    return guest


def is_guest(user: Any) -> bool:
    """Is this somebody without an account?"""
    return bool(user.get_username().startswith(_NAME)) and not user.has_usable_password()


def settle(guest: Any, name: str, password: str) -> bool:
    """Make the guest an account of this name, with all that is theirs; False for one who is no guest."""
    # Hashing takes a while, and is done before the row is locked.
    guest.set_password(password)
    return _settle(guest, name)


@database.retried
@transaction.atomic
def _settle(guest: Any, name: str) -> bool:
    row = _locked(guest)
    if row is None:
        return False
    setattr(guest, guest.USERNAME_FIELD, name)
    guest.save(update_fields=[guest.USERNAME_FIELD, "password"])
    return True


@database.retried
@transaction.atomic
def join(guest: Any, account: Any) -> None:
    """Give the account everything that is the guest's, overwriting nothing; the guest is gone then.

    Replies that are being written go on. Where there is no guest any more, nothing happens.
    """
    sessions = list(_sessions_of(guest))
    row = _locked(guest)
    if row is None:
        return
    # Those that were begun while this waited; nobody can begin another one for a user whose row is locked.
    sessions += _sessions_of(guest).exclude(pk__in=[session.pk for session in sessions])
    people = _people(row, account)
    for session in sessions:
        _move(session, people[session.person_id])
    for old, person in people.items():
        memory.take_over(old, person)
        _move_attachments(old, person)
    _move_keys(row, account)
    row.delete()


def _sessions_of(guest: Any) -> QuerySet[Session]:
    return Session.objects.select_for_update().filter(owner=guest.pk).order_by("pk")


def _locked(guest: Any) -> Any | None:
    """The guest's row, locked; None when there is none, or it has become an account."""
    row = get_user_model()._default_manager.select_for_update().filter(pk=guest.pk).first()
    return row if row and is_guest(row) else None


def _people(guest: Any, account: Any) -> dict[int, Person]:
    """To each person of the guest's the account's of the same name, all of them locked."""
    names = Person.objects.filter(owner=guest).values_list("pk", "ref")
    people = {pk: Person.objects.named(account, ref).pk for pk, ref in names}
    both = Person.objects.select_for_update(no_key=True).filter(pk__in={*people, *people.values()})
    locked = {person.pk: person for person in both.select_related(None).order_by("pk")}
    return {old: locked[new] for old, new in people.items()}


def _move(session: Session, person: Person) -> None:
    """Give the locked session to this person, and its rows in the index with it."""
    session.owner, session.person = person.owner, person
    if Session.objects.filter(person=person, ref=session.ref, ref__isnull=False).exists():
        session.ref = None
    if session.storage == Session.Storage.KEPT:
        # What is being made of it in the background is made for the guest, and is not written.
        session.epoch += 1
    session.save(update_fields=["owner", "person", "ref", "epoch"])
    IndexedMessage.objects.filter(session=session).update(
        owner=person.owner,
        person=person,
        place=place_of(person, session),
        wide=wide_place(person.owner_id),
    )


def _move_attachments(old: int, person: Person) -> None:
    """Give this person the files of the other one; a file that both have is kept once."""
    same = Attachment.objects.filter(person=person, sha256=OuterRef("sha256"), mime=OuterRef("mime"))
    theirs = Attachment.objects.filter(person=old)
    for pk, twin in theirs.annotate(twin=Subquery(same.values("pk")[:1])).values_list("pk", "twin"):
        if twin:
            history.show_twin(pk, twin)
        else:
            Attachment.objects.filter(pk=pk).update(person=person)


def _move_keys(guest: Any, account: Any) -> None:
    """Give the account the guest's keys, those of programs and those of writes that may be sent again."""
    ApiKey.objects.filter(owner=guest).update(owner=account)
    same = Idempotency.objects.filter(owner=account, person=OuterRef("person"), key=OuterRef("key"))
    Idempotency.objects.filter(owner=guest).exclude(Exists(same)).update(owner=account)
