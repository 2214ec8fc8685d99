"""Admin of background work that has failed or is being done."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from convo.admin.lists import ConfiguredNameFilter
from convo.admin.read_only import ReadOnlyAdmin, permission_check
from convo.jobs import registry
from convo.models import Work

# The model that each kind's targets are rows of.
TARGET_MODELS = {
    "learn": "turn",
    "index": "turn",
    "index_memory": "usermemory",
    "summarise": "session",
    "summarise_now": "session",
}


class KindFilter(ConfiguredNameFilter):
    title = parameter_name = "kind"

    def names(self) -> list[str]:
        return [kind.name for kind in registry.all_jobs()]


class StandingFilter(admin.SimpleListFilter):
    """A filter by the standing of the work: dead, waiting, due or in progress, by the database's clock."""

    title, parameter_name = "standing", "standing"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [
            ("dead", "dead: given up"),
            ("waits", "waiting after a failure"),
            ("due", "due, not started"),
            ("held", "being done"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Work]) -> QuerySet[Work]:
        ledger = Work.objects.items()
        by_standing = {
            "dead": ledger.dead(),
            "waits": ledger.given_up().filter(state=Work.State.TODO),
            "due": ledger.due(),
            "held": ledger.exclude(pk__in=ledger.free()),
        }
        rows = by_standing.get(self.value() or "")
        return queryset if rows is None else queryset.filter(pk__in=rows)


@admin.register(Work)
class WorkAdmin(ReadOnlyAdmin[Work]):
    """Background work. Dead work waits here until somebody looks at it and retries it."""

    list_display = ("__str__", "target_link", "state", "attempts", "next_at", "lease_until", "error_code")
    list_filter = ("state", StandingFilter, KindFilter)
    ordering = ("state", "next_at")
    search_names = ("target",)
    search_help_text = "The primary key of the row that the work is about."
    extra_lookups = ("kind__exact",)
    fields = (
        *("kind", "target_link", "state", "attempts", "next_at", "lease_until", "error_code", "error"),
        "created_at",
    )
    readonly_fields = ("target_link", "error_code")
    content_fields = ("error",)
    actions = ["retry_now"]

    has_retry_permission = permission_check("convo.change_work")

    @admin.action(permissions=["retry"], description="Retry dead and waiting work now")
    def retry_now(self, request: HttpRequest, queryset: QuerySet[Work]) -> None:
        count = Work.objects.filter(pk__in=queryset.values("pk")).retry()
        self.message_user(request, f"{count} due now; the next sweep does them.")

    @admin.display(description="about")
    def target_link(self, work: Work) -> str:
        """Return a link to the row that the work is about, or only its key if its kind has no known page."""
        model = TARGET_MODELS.get(work.kind)
        if model is None:
            return work.target
        return format_html(
            '<a href="{}">{} {}</a>',
            reverse(f"admin:convo_{model}_change", args=[work.target]),
            model,
            work.target,
        )

    @admin.display(description="error")
    def error_code(self, work: Work) -> str:
        """Return the code of the error without its message, which may quote a model server."""
        return work.error.partition(":")[0] or "-"
