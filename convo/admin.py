"""The admin: every table, readable; what the product itself writes is not edited here."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from convo.models import (
    AgentVersion,
    ApiKey,
    Evidence,
    Message,
    Person,
    Session,
    Summary,
    Turn,
    UserMemory,
)


class ReadOnly(admin.ModelAdmin):
    """Look, don't touch: the transcript is written by turns only."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MessageInline(admin.TabularInline):
    model = Message
    fields = ("position", "role", "type", "content", "tokens", "active", "created_at")
    readonly_fields = fields
    ordering = ("-position",)
    max_num = 0
    can_delete = False
    show_change_link = True
    per_page = 50

    def get_queryset(self, request: HttpRequest) -> Any:
        # The newest only: a transcript may have a hundred thousand.
        session_id = request.resolver_match.kwargs.get("object_id") if request.resolver_match else None
        rows = super().get_queryset(request).order_by("-position")
        newest = (
            Message.objects.filter(session=session_id).order_by("-position").values("pk")[: self.per_page]
        )
        return rows.filter(pk__in=list(newest.values_list("pk", flat=True)))


@admin.register(Session)
class SessionAdmin(ReadOnly):
    list_display = ("id", "title", "owner", "person", "agent", "state", "message_count", "last_activity")
    list_filter = ("state", "agent", "kind", "last_activity")
    list_select_related = ("owner", "person__owner")
    search_fields = ("id", "title", "ref")
    date_hierarchy = "created_at"
    inlines = [MessageInline]


@admin.register(Turn)
class TurnAdmin(ReadOnly):
    list_display = (
        "id",
        "session",
        "number",
        "status",
        "agent",
        "model",
        "input_tokens",
        "output_tokens",
        "created_at",
    )
    list_filter = ("status", "kind", "agent", "model")
    list_select_related = ("session",)
    search_fields = ("key", "session__id")


@admin.register(Message)
class MessageAdmin(ReadOnly):
    list_display = ("session", "position", "role", "type", "tokens", "active", "created_at")
    list_filter = ("role", "type")
    list_select_related = ("session",)
    search_fields = ("item_id", "session__id")


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly):
    list_display = ("prefix", "owner", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    list_select_related = ("owner",)
    exclude = ("hash", "pepper_id")


@admin.register(Person)
class PersonAdmin(ReadOnly):
    list_display = ("owner", "ref", "epoch")
    list_select_related = ("owner",)
    search_fields = ("ref",)


@admin.register(Summary)
class SummaryAdmin(ReadOnly):
    list_display = ("session", "from_position", "to_position", "source", "stale", "created_at")
    list_filter = ("source", "stale")
    list_select_related = ("session",)


@admin.register(UserMemory)
class UserMemoryAdmin(ReadOnly):
    list_display = ("person", "kind", "text", "status", "pinned", "source", "valid_from", "valid_to")
    list_filter = ("status", "kind", "source", "pinned")
    list_select_related = ("person__owner",)


@admin.register(Evidence)
class EvidenceAdmin(ReadOnly):
    list_display = ("memory", "message")
    list_select_related = ("memory__person__owner", "message")


@admin.register(AgentVersion)
class AgentVersionAdmin(ReadOnly):
    list_display = ("name", "sha256", "created_at")
    search_fields = ("name", "sha256")
