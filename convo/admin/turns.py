"""Admin of turns: the course of each, its question, and the prompt that the model saw."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from convo.admin.dashboard import UsageDashboardAdmin
from convo.admin.lists import AgentFilter, ModelFilter
from convo.admin.prompt_view import build_prompt_view, message_url
from convo.admin.read_only import ReadOnlyAdmin, can_read_content
from convo.admin.transcript import build_exchange
from convo.models import Turn


class StuckFilter(admin.SimpleListFilter):
    """A filter for unfinished turns, or only for those whose process has stopped renewing its lease."""

    title, parameter_name = "stuck", "stuck"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("yes", "lease expired"), ("unfinished", "queued or running")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Turn]) -> QuerySet[Turn]:
        if self.value() == "yes":
            return queryset.filter(pk__in=Turn.objects.expired())
        return queryset.filter(pk__in=Turn.objects.unfinished()) if self.value() else queryset


@admin.register(Turn)
class TurnAdmin(UsageDashboardAdmin, ReadOnlyAdmin[Turn]):
    """Turns with their times and tokens. The session's next question or the sweep ends a stuck turn."""

    list_display = (
        *("key", "session", "number", "status", "agent", "model", "input_tokens", "output_tokens"),
        *("error_code", "created_at"),
    )
    list_filter = ("status", StuckFilter, "kind", AgentFilter, ModelFilter, "started_at")
    list_select_related = ("session",)
    ordering = ("-id",)
    search_ids = ("key", "session")
    search_help_text = "The complete id of a turn, a response, a completion or a session."
    # The links of the dashboard and of a session's page use these.
    extra_lookups = (
        *("session__exact", "started_at__gte", "started_at__lt", "finished_at__isnull"),
        *("agent__in", "model__in", "status__in", "error__code", "error__code__in"),
        *("cache_hit__isnull", "first_token_at__isnull"),
    )
    deferred_fields = ("draft", "chunks", "manifest", "input", "gist")
    readonly_fields = ("error_code",)
    content_fields = ("input", "draft", "gist", "error", "route_reason")
    fieldsets = [
        (
            None,
            {
                "fields": (
                    *("session", "number", "status", "agent", "agent_version", "model"),
                    *("error_code", "error"),
                )
            },
        ),
        (
            "All fields",
            {
                "classes": ["collapse"],
                "fields": (
                    *("key", "kind", "parent", "question_turn", "route_reason"),
                    *("gist", "input", "draft", "epoch"),
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

    def page_context(self, request: HttpRequest, row: Turn) -> dict[str, object]:
        can_read = can_read_content(request)
        exchange = build_exchange(row, can_read=can_read)
        first_position = exchange.lines[0][0].position if exchange.lines else row.session.last_position
        return {
            "exchange": exchange,
            "seen": build_prompt_view(row, can_read=can_read),
            "in_transcript": message_url(row.session_id, first_position),
            "reads": can_read,
        }
