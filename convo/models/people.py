"""Who a conversation belongs to, and the keys that programs come in with."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from convo.conf import conf

NOBODY, ME = "", "me"


class PersonQuerySet(models.QuerySet["Person"]):
    def named(self, owner: Any, ref: str) -> "Person":
        """The owner's person of this name, made on first mention."""
        return self.get_or_create(owner=owner, ref=ref)[0]

    def locked(self, person: "Person") -> "Person":
        """The row, made if need be and locked until the transaction ends: who learns locks it too."""
        row = person if person.pk else self.named(person.owner, person.ref)
        return self.select_for_update(no_key=True).get(pk=row.pk)


class Person(models.Model):
    """Somebody who talks: the owner (`me`), an end user behind the owner's key, or nobody in particular."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="convo_people")
    ref = models.CharField(max_length=255, blank=True, help_text="'' is nobody, 'me' the owner.")
    epoch = models.PositiveIntegerField(default=0, help_text="Rises when something about them is forgotten.")
    never_store = models.JSONField(default=list, blank=True, help_text="What must never be remembered.")

    objects = PersonQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "people"
        constraints = [models.UniqueConstraint(fields=["owner", "ref"], name="one_person_per_ref")]
        indexes = [models.Index(fields=["ref"], name="person_by_ref")]

    def __str__(self) -> str:
        return f"{self.owner} / {self.ref or 'nobody'}"


def pepper() -> bytes:
    """What makes the keyed hashes in the database worthless without this server."""
    return (conf().key_pepper or settings.SECRET_KEY).encode()


def _hash(raw: str) -> str:
    return hmac.new(pepper(), raw.encode(), hashlib.sha256).hexdigest()


def _pepper_id() -> str:
    return hashlib.sha256(b"pepper id:" + pepper()).hexdigest()[:8]


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def issue(
        self, owner: Any, *, scopes: Sequence[str] = ("read", "write"), lifetime: timedelta | None = None
    ) -> tuple["ApiKey", str]:
        """A new key and its secret, which is shown this once and kept nowhere."""
        prefix = secrets.token_hex(6)
        raw = f"convo_{prefix}_{secrets.token_urlsafe(32)}"
        expires_at = timezone.now() + lifetime if lifetime else None
        key = self.create(
            owner=owner,
            prefix=prefix,
            hash=_hash(raw),
            pepper_id=_pepper_id(),
            scopes=list(scopes),
            expires_at=expires_at,
        )
        return key, raw

    def rotate(self, old: "ApiKey", *, overlap: timedelta) -> tuple["ApiKey", str]:
        """Another key in the place of this one, and its secret; the old one goes on for a while."""
        end = timezone.now() + overlap
        lifetime = old.expires_at - old.created_at if old.expires_at else None
        key, raw = self.issue(old.owner, scopes=old.scopes, lifetime=lifetime)
        # Whichever comes first: it is valid for no longer than it was.
        self.filter(pk=old.pk).filter(Q(expires_at=None) | Q(expires_at__gt=end)).update(expires_at=end)
        return key, raw

    def find(self, raw: str) -> "ApiKey | None":
        """The valid key behind this secret, or None; comparing takes the same time either way."""
        parts = raw.split("_", 2)
        prefix = parts[1] if len(parts) == 3 else ""
        key = self.filter(prefix=prefix).select_related("owner").first()
        matches = hmac.compare_digest(_hash(raw), key.hash if key else "")
        return key if key and matches and key.is_valid else None


class ApiKey(models.Model):
    """A program's way in. Only a keyed hash of the secret is stored."""

    SCOPES = ("read", "write", "memory:erase", "import", "admin")

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="convo_keys")
    prefix = models.CharField(max_length=12, unique=True)
    hash = models.CharField(max_length=64)
    pepper_id = models.CharField(max_length=8)
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
        alive = self.revoked_at is None and (self.expires_at is None or self.expires_at > now)
        return alive and bool(self.owner.is_active)

    def used(self) -> None:
        """Note the use, at most once a minute: an audit trail, not a write per request."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at > timedelta(minutes=1):
            ApiKey.objects.filter(pk=self.pk).update(last_used_at=now)
