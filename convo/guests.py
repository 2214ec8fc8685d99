"""Guests: visitors without an account, whose data moves to the account that they sign up or in with."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from convo import database, memory
from convo.history.files import replace_attachment
from convo.models import (
    ApiKey,
    Attachment,
    Guest,
    IdempotencyRecord,
    IndexedMessage,
    Person,
    Session,
    owner_key_of,
    scope_key_of,
)


@transaction.atomic
def create_guest() -> Any:
    """Create a user without a usable password: only the session cookie leads back to it."""
    model = get_user_model()
    user = model(**{model.USERNAME_FIELD: f"guest-{secrets.token_hex(8)}"})
    user.set_unusable_password()
    user.save()
    Guest.objects.create(user=user)
    return user


def is_guest(user: Any) -> bool:
    """Return whether this user is a guest. A row of Guest decides that, and not the user's name."""
    return user.pk is not None and Guest.objects.filter(pk=user.pk).exists()


def convert_to_account(guest: Any, name: str, password: str) -> bool:
    """Turn the guest into an account of this name that keeps all data, or return False if it is no guest."""
    # Hashing takes a while, so it is done before the row is locked.
    guest.set_password(password)
    return _settle(guest, name)


@database.retry_conflicts
@transaction.atomic
def _settle(guest: Any, name: str) -> bool:
    row = _lock_guest(guest)
    if row is None:
        return False
    setattr(guest, guest.USERNAME_FIELD, name)
    guest.save(update_fields=[guest.USERNAME_FIELD, "password"])
    Guest.objects.filter(pk=guest.pk).delete()
    return True


@database.retry_conflicts
@transaction.atomic
def merge_into_account(guest: Any, account: Any) -> None:
    """Move all data of the guest to the account, overwriting nothing, and delete the guest.

    Replies that are being written go on. If the user is not a guest any more, nothing happens.
    """
    sessions = list(_sessions_of(guest))
    row = _lock_guest(guest)
    if row is None:
        return
    # Sessions may have begun while this waited for the lock. None can begin while the user's row is locked.
    sessions += _sessions_of(guest).exclude(pk__in=[session.pk for session in sessions])
    people = _match_people(row, account)
    for session in sessions:
        _move_session(session, people[session.person_id])
    for guest_person_id, person in people.items():
        memory.merge_people(guest_person_id, person)
        _move_attachments(guest_person_id, person)
    _move_keys(row, account)
    row.delete()


def _sessions_of(guest: Any) -> QuerySet[Session]:
    return Session.objects.select_for_update().filter(owner=guest.pk).order_by("pk")


def _lock_guest(guest: Any) -> Any | None:
    """Lock the guest's row and return it; None if there is none, or the guest has become an account."""
    row = get_user_model()._default_manager.select_for_update().filter(pk=guest.pk).first()
    return row if row and is_guest(row) else None


def _match_people(guest: Any, account: Any) -> dict[int, Person]:
    """Map the ids of the guest's people to the account's people of the same names, and lock all of them."""
    refs = Person.objects.filter(owner=guest).values_list("pk", "ref")
    people = {pk: Person.objects.get_or_create_by_ref(account, ref).pk for pk, ref in refs}
    people_to_lock = Person.objects.select_for_update(no_key=True).filter(pk__in={*people, *people.values()})
    locked_people = {person.pk: person for person in people_to_lock.select_related(None).order_by("pk")}
    return {guest_pk: locked_people[account_pk] for guest_pk, account_pk in people.items()}


def _move_session(session: Session, person: Person) -> None:
    """Give a locked session, and its rows in the search index, to this person."""
    session.owner, session.person = person.owner, person
    if Session.objects.filter(person=person, ref=session.ref, ref__isnull=False).exists():
        session.ref = None
    if session.storage == Session.Storage.PERSISTENT:
        # Background work that is in progress is for the guest; with another epoch it writes nothing.
        session.epoch += 1
    session.save(update_fields=["owner", "person", "ref", "epoch"])
    IndexedMessage.objects.filter(session=session).update(
        owner=person.owner,
        person=person,
        scope_key=scope_key_of(person, session),
        owner_key=owner_key_of(person.owner_id),
    )


def _move_attachments(guest_person_id: int, person: Person) -> None:
    """Move the files of another person to this one; a file that both have is stored once."""
    twins = Attachment.objects.filter(person=person, sha256=OuterRef("sha256"), mime=OuterRef("mime"))
    files = Attachment.objects.filter(person=guest_person_id)
    for pk, twin in files.annotate(twin=Subquery(twins.values("pk")[:1])).values_list("pk", "twin"):
        if twin:
            replace_attachment(pk, twin)
        else:
            Attachment.objects.filter(pk=pk).update(person=person)


def _move_keys(guest: Any, account: Any) -> None:
    ApiKey.objects.filter(owner=guest).update(owner=account)
    key_of_account = IdempotencyRecord.objects.filter(
        owner=account, person=OuterRef("person"), key=OuterRef("key")
    )
    IdempotencyRecord.objects.filter(owner=guest).exclude(Exists(key_of_account)).update(owner=account)
