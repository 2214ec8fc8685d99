"""The admin: every table, readable; what the product itself writes is not edited here."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from convo import memory
from convo.models import (
    AgentVersion,
    ApiKey,
    Asked,
    Evidence,
    Message,
    Person,
    Session,
    Summary,
    Turn,
    UserMemory,
    Work,
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


@admin.register(Asked)
class AskedAdmin(ReadOnly):
    list_display = ("turn", "surface", "background", "attempts", "retrievable")
    list_filter = ("surface", "background", "retrievable")
    list_select_related = ("turn",)
    search_fields = ("turn__key", "turn__session__id")


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


class EvidenceInline(admin.TabularInline):
    model = Evidence
    fields = readonly_fields = ("message", "said")
    max_num = 0
    can_delete = False

    @admin.display(description="what was said")
    def said(self, evidence: Evidence) -> str:
        return evidence.message.content

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("message__session")


@admin.register(UserMemory)
class UserMemoryAdmin(ReadOnly):
    """Memories are reviewed here; to delete one is to forget it."""

    list_display = ("person", "kind", "text", "status", "pinned", "source", "valid_from", "valid_to")
    list_filter = ("status", "kind", "source", "pinned")
    list_select_related = ("person__owner",)
    search_fields = ("key", "text")
    readonly_fields = ("chain",)
    inlines = [EvidenceInline]
    actions = ["approve", "reject"]

    def has_review_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("convo.change_usermemory")

    @admin.action(description="Approve: let these be used", permissions=["review"])
    def approve(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> None:
        waiting = list(queryset.filter(status=UserMemory.Status.NEEDS_REVIEW).select_related("person"))
        for row in waiting:
            memory.change(row, approve=True)
            self.log_change(request, row, "approved")
        self.message_user(request, f"Approved: {len(waiting)}.")

    @admin.action(description="Reject: forget what waits for review", permissions=["review"])
    def reject(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> None:
        waiting = list(queryset.filter(status=UserMemory.Status.NEEDS_REVIEW).select_related("person"))
        for row in waiting:
            memory.forget(row)
            self.log_change(request, row, "rejected and forgotten")
        self.message_user(request, f"Rejected: {len(waiting)}.")

    def delete_model(self, request: HttpRequest, obj: UserMemory) -> None:
        memory.forget(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> None:
        for row in queryset.select_related("person"):
            memory.forget(row)

    @admin.display(description="through time")
    def chain(self, row: UserMemory) -> SafeString:
        """What it replaced, itself, and what replaced it, oldest first."""
        steps = (
            (
                reverse("admin:convo_usermemory_change", args=[step.pk]),
                step.valid_from.date(),
                step.text,
                step.status,
            )
            for step in memory.history(row)
        )
        return format_html_join("", '<div><a href="{}">{}</a> {} ({})</div>', steps)


@admin.register(Evidence)
class EvidenceAdmin(ReadOnly):
    list_display = ("memory", "message")
    list_select_related = ("memory__person__owner", "message")


@admin.register(AgentVersion)
class AgentVersionAdmin(ReadOnly):
    list_display = ("name", "sha256", "created_at")
    search_fields = ("name", "sha256")


@admin.register(Work)
class WorkAdmin(ReadOnly):
    list_display = ("kind", "target", "state", "attempts", "next_at", "lease_until", "error")
    list_filter = ("state", "kind")
    search_fields = ("target", "error")
    ordering = ("state", "next_at")
    actions = ["retry_now"]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("convo.change_work")

    @admin.action(permissions=["retry"], description="Retry now what is dead or waits")
    def retry_now(self, request: HttpRequest, queryset: QuerySet[Work]) -> None:
        count = Work.objects.filter(pk__in=queryset.values("pk")).retry()
        self.message_user(request, f"{count} due now; the next sweep does them.")
