"""Admin of requests to /v1, of idempotency keys, and of the versions of agents that answered."""

from django.contrib import admin
from django.db.models import Q

from convo.admin.lists import match_owner, parse_uuid
from convo.admin.read_only import ReadOnlyAdmin
from convo.models import AgentVersion, IdempotencyRecord, TurnRequest


@admin.register(TurnRequest)
class TurnRequestAdmin(ReadOnlyAdmin[TurnRequest]):
    """The parameters that came with questions over /v1."""

    list_display = ("turn", "surface", "background", "attempts", "is_stored")
    list_filter = ("surface", "background", "is_stored")
    list_select_related = ("turn",)
    ordering = ("-turn",)
    search_fields = ("turn",)
    search_help_text = "The complete id of a response, a completion or a session."
    extra_lookups = ("turn__exact",)
    deferred_fields = ("params", "metadata", "options")
    content_fields = ("params", "metadata", "options")
    fields = ("turn", "surface", "params", "metadata", "options", "background", "attempts", "is_stored")

    def search_condition(self, term: str) -> Q:
        key = parse_uuid(term)
        return Q(turn__key=key) | Q(turn__session=key) if key else Q(pk=None)


@admin.register(IdempotencyRecord)
class IdempotencyAdmin(ReadOnlyAdmin[IdempotencyRecord]):
    """Writes of the last day, which a client can repeat without a second effect."""

    list_display = ("id", "owner", "person", "key", "turn", "status", "created_at")
    list_select_related = ("owner", "turn")
    ordering = ("-id",)
    search_fields = ("key",)
    search_help_text = "The user name of an owner."
    deferred_fields = ("body",)
    content_fields = ("key", "body")
    fields = ("owner", "person", "key", "fingerprint", "turn", "status", "body", "created_at")

    def search_condition(self, term: str) -> Q:
        return match_owner(term)


@admin.register(AgentVersion)
class AgentVersionAdmin(ReadOnlyAdmin[AgentVersion]):
    """Agents as they were configured at the time of some turn."""

    list_display = ("name", "sha256", "created_at")
    ordering = ("-created_at",)
    search_fields = ("name",)
    search_help_text = "A complete name or hash."
    # The configuration includes instructions that a caller of /v1 sent.
    content_fields = ("config",)
    deferred_fields = content_fields
    fields = ("name", "sha256", "created_at", "config")

    def search_condition(self, term: str) -> Q:
        return Q(name=term) | Q(sha256=term)
