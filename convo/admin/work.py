"""Work in the background that failed or is being done."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from convo.admin.lists import Named
from convo.admin.reading import ReadOnly
from convo.jobs import kinds
from convo.models import Work

# The table that a kind's targets are in.
ABOUT = {"learn": "turn", "summarise": "session", "summarise_now": "session"}


class ByKind(Named):
    title, parameter_name, field = "kind", "kind", "kind"

    def names(self) -> list[str]:
        return [kind.name for kind in kinds.kinds()]


class Standing(admin.SimpleListFilter):
    """How it stands with the work, by the database's clock."""

    title, parameter_name = "standing", "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("dead", "dead: given up"),
            ("waits", "waits after a failure"),
            ("due", "due, and nobody is at it"),
            ("held", "being done"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        work = Work.objects.items()
        stands = {
            "dead": work.dead(),
            "waits": work.given_up().filter(state=Work.State.TODO),
            "due": work.due(),
            "held": work.exclude(pk__in=work.free()),
        }
        chosen = stands.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(pk__in=chosen)


@admin.register(Work)
class WorkAdmin(ReadOnly):
    """What is dead waits here for somebody to look at it, and to retry it."""

    list_display = ("__str__", "about", "state", "attempts", "next_at", "lease_until", "code")
    list_filter = ("state", Standing, ByKind)
    ordering = ("state", "next_at")
    search_fields = ("target",)
    search_help_text = "The primary key of the row that the work is about."
    lookups = ("kind__exact",)
    fields = ("kind", "about", "state", "attempts", "next_at", "lease_until", "code", "error", "created_at")
    readonly_fields = ("about", "code")
    said = ("error",)
    actions = ["retry_now"]

    def found_by(self, term: str) -> Q:
        return Q(target=term)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("convo.change_work"))

    @admin.action(permissions=["retry"], description="Retry now what is dead or waits")
    def retry_now(self, request: HttpRequest, queryset: QuerySet[Work]) -> None:
        count = Work.objects.filter(pk__in=queryset.values("pk")).retry()
        self.message_user(request, f"{count} due now; the next sweep does them.")

    @admin.display(description="about")
    def about(self, work: Work) -> str:
        """The row that it is about, where that is known to have a page."""
        table = ABOUT.get(work.kind)
        if table is None:
            return work.target
        return format_html(
            '<a href="{}">{} {}</a>',
            reverse(f"admin:convo_{table}_change", args=[work.target]),
            table,
            work.target,
        )

    @admin.display(description="error")
    def code(self, work: Work) -> str:
        """What went wrong, without the sentence: that may quote what a model server said."""
        return work.error.partition(":")[0] or "-"
