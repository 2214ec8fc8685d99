"""Admin of requests to /v1, of idempotency keys, and of the versions of agents that answered."""

from django.contrib import admin

from convo.admin.lists import OWNER_NAME
from convo.admin.read_only import ReadOnlyAdmin
from convo.models import AgentVersion, IdempotencyRecord, TurnRequest


@admin.register(TurnRequest)
class TurnRequestAdmin(ReadOnlyAdmin[TurnRequest]):
    """The parameters that came with questions over /v1."""

    list_display = ("turn", "surface", "background", "attempts", "is_stored")
    list_filter = ("surface", "background", "is_stored")
    list_select_related = ("turn",)
    ordering = ("-turn",)
    search_ids = ("turn__key", "turn__session")
    search_help_text = "The complete id of a response, a completion or a session."
    extra_lookups = ("turn__exact",)
    deferred_fields = ("params", "metadata", "options")
    content_fields = ("params", "metadata", "options")
    fields = ("turn", "surface", "params", "metadata", "options", "background", "attempts", "is_stored")


@admin.register(IdempotencyRecord)
class IdempotencyAdmin(ReadOnlyAdmin[IdempotencyRecord]):
    """Writes of the last day, which a client can repeat without a second effect."""

    list_display = ("id", "owner", "person", "key", "turn", "status", "created_at")
    list_select_related = ("owner", "turn")
    ordering = ("-id",)
    search_names = (OWNER_NAME,)
    search_help_text = "The user name of an owner."
    deferred_fields = ("body",)
    content_fields = ("key", "body")
    fields = ("owner", "person", "key", "fingerprint", "turn", "status", "body", "created_at")


@admin.register(AgentVersion)
class AgentVersionAdmin(ReadOnlyAdmin[AgentVersion]):
    """Agents as they were configured at the time of some turn."""

    list_display = ("name", "sha256", "created_at")
    ordering = ("-created_at",)
    search_names = ("name", "sha256")
    search_help_text = "A complete name or hash."
    # The configuration includes instructions that a caller of /v1 sent.
    content_fields = ("config",)
    deferred_fields = content_fields
    fields = ("name", "sha256", "created_at", "config")
