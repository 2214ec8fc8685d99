"""The REST API: turns, tokens and times of the caller's sessions."""

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import usage
from convo.http.auth import requested_person
from convo.rest import schema
from convo.rest.viewset import ConvoViewSet
from convo.usage import Figures, Percentiles, UsageReport

DEFAULT_DAYS = 30  # days


class UsageViewSet(ConvoViewSet):
    """Turns, tokens, times and failures of your sessions, by day, agent and model."""

    allowed_params = {"list": ("days", "agent", "model")}

    @extend_schema(
        operation_id="usage", parameters=schema.USAGE_PARAMETERS, responses=schema.responses(schema.USAGE)
    )
    def list(self, request: Request) -> Response:
        """The usage of your sessions on the last `days`, today included; a day begins at midnight UTC."""
        params, user, owner = self.params, requested_person(request), request.user
        last_day = usage.today()
        first_day = last_day - timedelta(
            days=(params.integer("days", min_value=1, max_value=usage.MAX_DAYS) or DEFAULT_DAYS) - 1
        )
        filters = {name: params.text(name) for name in ("agent", "model") if params.text(name)}
        if user is None:
            return Response(usage_json(usage.of_owner(owner, first_day, last_day, **filters)))
        return Response(usage_json(usage.of_person(owner, user, first_day, last_day, **filters)))


def usage_json(report: UsageReport) -> dict[str, Any]:
    return {
        "total": _figures_json(report.total),
        "days": [{"day": day, **_figures_json(figures)} for day, figures in report.days.items()],
        "agents": [{"agent": name, **_figures_json(figures)} for name, figures in report.agents.items()],
        "models": [
            {"model": name or None, **_figures_json(figures)} for name, figures in report.models.items()
        ],
    }


def _figures_json(figures: Figures) -> dict[str, Any]:
    return {
        "turns": figures.turns,
        "failed": figures.failed,
        "errors": figures.errors,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "cached_tokens": figures.cached_tokens,
        "first_token_ms": _percentiles_json(figures.first_token),
        "duration_ms": _percentiles_json(figures.duration),
    }


def _percentiles_json(spread: Percentiles) -> dict[str, int | None]:
    return {"p50": spread.p50, "p95": spread.p95}
