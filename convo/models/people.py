"""The people whom conversations belong to, guests, and API keys."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Q
from django.utils import timezone

from convo.conf import conf
from convo.sql import Columns, db_value, fetch_one

NOBODY, ME = "", "me"


class PersonQuerySet(models.QuerySet["Person"]):
    def get_or_create_by_ref(self, owner: Any, ref: str) -> "Person":
        # By hand: nearly every question has a known person, and the ORM takes 0.6 ms more to find them.
        row = fetch_one(_PERSON_SQL, [db_value(Person, "owner", owner.pk), ref])
        person = _PERSON.instance(row) if row else self.get_or_create(owner=owner, ref=ref)[0]
        person.owner = owner
        return person

    def lock(self, person: "Person") -> "Person":
        """Get or create the row, locked until the transaction ends. Learning locks it as well."""
        row = person if person.pk else self.get_or_create_by_ref(person.owner, person.ref)
        return self.select_for_update(no_key=True).get(pk=row.pk)


class Person(models.Model):
    """Somebody who talks: the owner (`me`), an end user behind the owner's key, or nobody in particular."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="convo_people", db_index=False
    )
    ref = models.CharField(
        max_length=255, blank=True, help_text="Empty: nobody in particular; 'me': the owner."
    )
    epoch = models.PositiveIntegerField(default=0, help_text="Rises when something about them is forgotten.")
    never_store = models.JSONField(default=list, blank=True, help_text="What must never be remembered.")

    objects = PersonQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "people"
        constraints = [models.UniqueConstraint(fields=["owner", "ref"], name="one_person_per_ref")]
        indexes = [models.Index(fields=["ref"], name="person_by_ref")]

    def __str__(self) -> str:
        return f"{self.owner} / {self.ref or 'nobody'}"


_PERSON = Columns(Person)
_PERSON_SQL = f"SELECT {_PERSON.sql('convo_person')} FROM convo_person WHERE owner_id = %s AND ref = %s"


class Guest(models.Model):
    """The mark of a user who is a visitor without an account: only a cookie leads back to this user."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="convo_guest"
    )

    def __str__(self) -> str:
        return str(self.user)


def pepper() -> bytes:
    """Return the secret of all keyed hashes: without it, those in the database are worthless."""
    return (conf().key_pepper or settings.SECRET_KEY).encode()


def _hash(secret: str) -> str:
    return hmac.new(pepper(), secret.encode(), hashlib.sha256).hexdigest()


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def issue(
        self, owner: Any, *, scopes: Sequence[str] = ("read", "write"), lifetime: timedelta | None = None
    ) -> tuple["ApiKey", str]:
        """Create a key, and return it with its secret, which is stored nowhere and can be shown only now."""
        prefix = secrets.token_hex(6)
        secret = f"convo_{prefix}_{secrets.token_urlsafe(32)}"
        expires_at = timezone.now() + lifetime if lifetime else None
        key = self.create(
            owner=owner, prefix=prefix, hash=_hash(secret), scopes=list(scopes), expires_at=expires_at
        )
        return key, secret

    def rotate(self, old: "ApiKey", *, overlap: timedelta) -> tuple["ApiKey", str]:
        """Create a key to replace this one, which stays valid for `overlap`; return it with its secret."""
        end = timezone.now() + overlap
        lifetime = old.expires_at - old.created_at if old.expires_at else None
        key, secret = self.issue(old.owner, scopes=old.scopes, lifetime=lifetime)
        # A key that expires earlier keeps its own expiry.
        self.filter(pk=old.pk).filter(Q(expires_at=None) | Q(expires_at__gt=end)).update(expires_at=end)
        return key, secret

    def find(self, secret: str) -> "ApiKey | None":
        """Return the valid key with this secret, or None; the comparison takes the same time either way."""
        parts = secret.split("_", 2)
        prefix = parts[1] if len(parts) == 3 else ""
        key = _key_with_owner(prefix)
        matches = hmac.compare_digest(_hash(secret), key.hash if key else "")
        return key if key and matches and key.is_valid else None


class ApiKey(models.Model):
    """A key with which a program uses the API. Only a keyed hash of the secret is stored."""

    # A new key can have these scopes. Older keys may also have `admin`, which grants nothing yet.
    SCOPES = ("read", "write", "memory:erase", "import")

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="convo_keys")
    prefix = models.CharField(max_length=12, unique=True)
    hash = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    def __str__(self) -> str:
        return f"convo_{self.prefix}_…"

    @property
    def is_valid(self) -> bool:
        now = timezone.now()
        is_current = self.revoked_at is None and (self.expires_at is None or self.expires_at > now)
        return is_current and bool(self.owner.is_active)

    def record_use(self) -> None:
        """Record the time of use, at most once a minute: an audit trail, not a write per request."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at > timedelta(minutes=1):
            ApiKey.objects.filter(pk=self.pk).update(last_used_at=now)


@cache
def _columns() -> "tuple[Columns[ApiKey], Columns[Any], str]":
    key, owner, users = Columns(ApiKey), Columns(get_user_model()), get_user_model()._meta
    # A user model is the project's own: its table and its columns have any names.
    return (
        key,
        owner,
        f"""
            SELECT {key.sql("key")}, {owner.sql("owner")}
            FROM convo_apikey key JOIN "{users.db_table}" owner ON owner."{users.pk.column}" = key.owner_id
            WHERE key.prefix = %s
        """,
    )


def _key_with_owner(prefix: str) -> "ApiKey | None":
    """Return the key with this prefix and its owner: by hand, because the ORM takes 1.2 ms more for it."""
    key_columns, owner_columns, sql = _columns()
    row = fetch_one(sql, [prefix])
    if row is None:
        return None
    key = key_columns.instance(row[: len(key_columns)])
    key.owner = owner_columns.instance(row[len(key_columns) :])
    return key
