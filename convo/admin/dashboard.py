"""What was used and how it went: charts whose marks lead to the turns behind them. No text of anybody's."""

from dataclasses import dataclass

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode

from convo import jobs, usage
from convo.admin import charts, panels
from convo.admin.panels import Wanted, of_hundred, time_of
from convo.models import Work
from convo.usage import Usage


class Dashboard(admin.ModelAdmin):
    """Gives the admin of turns a page of what was used."""

    def get_urls(self) -> list[URLPattern]:
        page = path("usage/", self.admin_site.admin_view(self.usage), name="convo_turn_usage")
        return [page, *super().get_urls()]

    def usage(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        wanted = Wanted.of(request.GET)
        found = usage.of_everybody(wanted.first, wanted.last, **wanted.only)
        context = {
            **self.admin_site.each_context(request),
            "title": "Usage",
            "opts": self.opts,
            "wanted": wanted,
            "is_empty": not found.total.turns,
            "facts": facts(found),
            "charts": panels.drawn(found, wanted),
            "tables": panels.tables(found, wanted),
            "background": background(),
        }
        return TemplateResponse(request, "admin/convo/dashboard.html", context)


@dataclass(frozen=True)
class Fact:
    """A number that stands by itself."""

    name: str
    value: str
    more: str = ""


def facts(found: Usage) -> list[Fact]:
    every = found.total
    return [
        Fact("Turns", charts.number(every.turns)),
        Fact(
            "Tokens read",
            charts.number(every.input_tokens),
            f"{of_hundred(every.cached_tokens, every.input_tokens)} cached",
        ),
        Fact("Tokens written", charts.number(every.output_tokens)),
        Fact("First token", time_of(every.first_token.p50), f"95 in 100: {time_of(every.first_token.p95)}"),
        Fact("Whole reply", time_of(every.duration.p50), f"95 in 100: {time_of(every.duration.p95)}"),
        Fact("Failed", of_hundred(every.failed, every.turns), f"{charts.exact(every.failed)} turns"),
        Fact("Transcript at hand", of_hundred(every.hot, every.looked)),
    ]


@dataclass(frozen=True, kw_only=True)
class Pile:
    """The work of one kind that has a row, for it is being done or has failed; each with its address."""

    kind: str
    doing: int
    due: int
    waiting: int
    dead: int
    todo_href: str
    dead_href: str


@dataclass(frozen=True, kw_only=True)
class Background:
    """How far the background is behind, and what of it needs a person."""

    lag: str
    piles: list[Pile]

    @property
    def dead(self) -> int:
        return sum(pile.dead for pile in self.piles)


def background() -> Background:
    todo, items = Q(state=Work.State.TODO), Work.objects.items()
    held, ripe = Q(lease_until__gt=Now()), Q(next_at__lte=Now())
    rows = items.values("kind").annotate(
        doing=Count("pk", filter=todo & held),
        due=Count("pk", filter=todo & ripe & ~held),
        waiting=Count("pk", filter=todo & ~ripe & ~held),
        dead=Count("pk", filter=Q(state=Work.State.DEAD)),
    )
    piles = [
        Pile(
            **row,
            todo_href=_work(row["kind"], Work.State.TODO),
            dead_href=_work(row["kind"], Work.State.DEAD),
        )
        for row in rows.order_by("kind")
    ]
    lag = jobs.lag()
    return Background(lag=charts.took(1000 * lag) if lag else "", piles=piles)


def _work(kind: str, state: str) -> str:
    asked = {"kind__exact": kind, "state__exact": state}
    return f"{reverse('admin:convo_work_changelist')}?{urlencode(asked)}"
