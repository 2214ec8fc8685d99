"""Turns: how each went, what it asked, and what the model saw."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from convo.admin.dashboard import Dashboard
from convo.admin.lists import ByAgent, ByModel, uuid_in
from convo.admin.reading import ReadOnly, may_read
from convo.admin.seen import place_of, seen_by
from convo.admin.transcript import exchange_of
from convo.models import Turn


class Stuck(admin.SimpleListFilter):
    """The turns that nobody ends: they wait or run, and whose process has stopped renewing them."""

    title, parameter_name = "stuck", "stuck"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "lease expired"), ("unfinished", "queued or running")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "yes":
            return queryset.filter(pk__in=Turn.objects.expired())
        return queryset.filter(pk__in=Turn.objects.unfinished()) if self.value() else queryset


@admin.register(Turn)
class TurnAdmin(Dashboard, ReadOnly):
    """Questions and replies, with what each took. To end one that is stuck is the next request's work."""

    list_display = (
        *("key", "session", "number", "status", "agent", "model", "input_tokens", "output_tokens"),
        *("error_code", "created_at"),
    )
    list_filter = ("status", Stuck, "kind", ByAgent, ByModel, "started_at")
    list_select_related = ("session",)
    ordering = ("-id",)
    search_fields = ("key",)
    search_help_text = "The id of a turn, a response, a completion or a session, whole."
    # The dashboard's ways down to the rows.
    lookups = (
        *("session__exact", "started_at__gte", "started_at__lt", "finished_at__isnull"),
        *("agent__in", "model__in", "status__in", "error__code", "error__code__in"),
        *("hot__isnull", "first_token_at__isnull"),
    )
    deferred = ("draft", "pieces", "manifest", "input", "gist")
    readonly_fields = ("error_code",)
    said = ("input", "draft", "gist", "error", "route_reason")
    fieldsets = [
        (
            None,
            {
                "fields": (
                    "session",
                    "number",
                    "status",
                    "agent",
                    "agent_version",
                    "model",
                    "error_code",
                    "error",
                )
            },
        ),
        (
            "All of its fields",
            {
                "classes": ["collapse"],
                "fields": (
                    *("key", "kind", "parent", "asks", "route_reason", "gist", "input", "draft", "epoch"),
                    *("input_tokens", "output_tokens", "cached_tokens", "cost"),
                    *("worker", "lease_until", "cancel_requested", "created_at", "started_at"),
                    *("first_token_at", "finished_at", "indexed_at", "learned_at"),
                ),
            },
        ),
    ]

    @admin.display(description="error code")
    def error_code(self, turn: Turn) -> str:
        return str((turn.error or {}).get("code", "")) or "-"

    def found_by(self, term: str) -> Q:
        id = uuid_in(term)
        return Q(key=id) | Q(session=id) if id else Q(pk=None)

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        reads = may_read(request)
        exchange = exchange_of(row, reads=reads)
        first = exchange.lines[0].row.position if exchange.lines else row.session.last_position
        return {
            "exchange": exchange,
            "seen": seen_by(row, reads=reads),
            "in_transcript": place_of(row.session_id, first),
            "reads": reads,
        }
