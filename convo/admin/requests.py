"""What callers asked for and under which key, and which agent answered."""

from django.contrib import admin
from django.db.models import Q

from convo.admin.lists import owner_named, uuid_in
from convo.admin.reading import ReadOnly
from convo.models import AgentVersion, Asked, Idempotency


@admin.register(Asked)
class AskedAdmin(ReadOnly):
    """What came with questions over /v1."""

    list_display = ("turn", "surface", "background", "attempts", "retrievable")
    list_filter = ("surface", "background", "retrievable")
    list_select_related = ("turn",)
    ordering = ("-turn",)
    search_fields = ("turn",)
    search_help_text = "The id of a response, a completion or a session, whole."
    lookups = ("turn__exact",)
    deferred = ("params", "metadata", "wishes")
    said = ("params", "metadata", "wishes")
    fields = ("turn", "surface", "params", "metadata", "wishes", "background", "attempts", "retrievable")

    def found_by(self, term: str) -> Q:
        id = uuid_in(term)
        return Q(turn__key=id) | Q(turn__session=id) if id else Q(pk=None)


@admin.register(Idempotency)
class IdempotencyAdmin(ReadOnly):
    """The writes of the last day that can be sent again without being made again."""

    list_display = ("id", "owner", "person", "key", "turn", "status", "created_at")
    list_select_related = ("owner", "turn")
    ordering = ("-id",)
    search_fields = ("key",)
    search_help_text = "The user name of an owner."
    deferred = ("body",)
    said = ("key", "body")
    fields = ("owner", "person", "key", "fingerprint", "turn", "status", "body", "created_at")

    def found_by(self, term: str) -> Q:
        return owner_named(term)


@admin.register(AgentVersion)
class AgentVersionAdmin(ReadOnly):
    """Agents as they were on the day of some turn."""

    list_display = ("name", "sha256", "created_at")
    ordering = ("-created_at",)
    search_fields = ("name",)
    search_help_text = "A name or a hash, whole."
    # With the instructions that a caller of /v1 gave.
    said = ("config",)
    deferred = said
    fields = ("name", "sha256", "created_at", "config")

    def found_by(self, term: str) -> Q:
        return Q(name=term) | Q(sha256=term)
