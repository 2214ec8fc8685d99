"""The usage dashboard: charts whose marks link to the turns behind them, without any text of people."""

from typing import NamedTuple

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from convo import jobs, usage
from convo.admin import charts, panels
from convo.admin.panels import Selection, format_optional_duration, format_ratio
from convo.models import Work
from convo.usage import Percentiles, UsageReport


class UsageDashboardAdmin(admin.ModelAdmin):
    """A base class for the admin of turns that adds the usage page."""

    def get_urls(self) -> list[URLPattern]:
        page = path("usage/", self.admin_site.admin_view(self.usage_view), name="convo_turn_usage")
        return [page, *super().get_urls()]

    def usage_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        selection = Selection.from_query_params(request.GET)
        report = usage.of_everybody(selection.first, selection.last, **selection.filters)
        context = {
            **self.admin_site.each_context(request),
            "title": "Usage",
            "opts": self.opts,
            "wanted": selection,
            "is_empty": not report.total.turns,
            "facts": statistics(report),
            "charts": panels.build_charts(report, selection),
            "tables": panels.build_tables(report, selection),
            "background": background_status(),
        }
        return TemplateResponse(request, "admin/convo/dashboard.html", context)


class Statistic(NamedTuple):
    """A single number at the top of the dashboard."""

    name: str
    value: str
    detail: str = ""


def statistics(report: UsageReport) -> list[Statistic]:
    total = report.total
    cached = format_ratio(total.cached_tokens, total.input_tokens)
    failed = format_ratio(total.failed, total.turns)
    return [
        Statistic("Turns", charts.format_short(total.turns)),
        Statistic("Tokens read", charts.format_short(total.input_tokens), f"{cached} cached"),
        Statistic("Tokens written", charts.format_short(total.output_tokens)),
        _duration_statistic("First token", total.first_token),
        _duration_statistic("Whole reply", total.duration),
        Statistic("Failed", failed, f"{charts.format_exact(total.failed)} turns"),
        Statistic("Transcript in cache", format_ratio(total.cache_hits, total.cache_reads)),
    ]


def _duration_statistic(name: str, spread: Percentiles) -> Statistic:
    detail = f"95 in 100: {format_optional_duration(spread.p95)}"
    return Statistic(name, format_optional_duration(spread.p50), detail)


def background_status() -> dict[str, object]:
    """Return the lag of background work, and the numbers of its rows by kind and state.

    Work that succeeded has no row. Dead work needs a person.
    """
    is_todo, ledger = Q(state=Work.State.TODO), Work.objects.items()
    has_lease, is_due = Q(lease_until__gt=Now()), Q(next_at__lte=Now())
    rows = ledger.values("kind").annotate(
        running=Count("pk", filter=is_todo & has_lease),
        due=Count("pk", filter=is_todo & is_due & ~has_lease),
        waiting=Count("pk", filter=is_todo & ~is_due & ~has_lease),
        dead=Count("pk", filter=Q(state=Work.State.DEAD)),
    )
    work_counts = list(rows.order_by("kind"))
    lag = jobs.lag_seconds()
    return {
        "lag": charts.format_duration(1000 * lag) if lag else "",
        "work_counts": work_counts,
        "dead": sum(row["dead"] for row in work_counts),
    }
