"""The REST API: what the caller's sessions used."""

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import usage
from convo.http.auth import named_person
from convo.http.rest import schema
from convo.http.rest.viewset import ConvoViewSet
from convo.usage import Figures, Spread, Usage

USUAL = 30  # days


class UsageViewSet(ConvoViewSet):
    """Turns, tokens, times and failures of your sessions, by day, agent and model."""

    parameters = {"list": ("days", "agent", "model")}

    @extend_schema(
        operation_id="usage", parameters=schema.USAGE_PARAMETERS, responses=schema.answers(schema.USAGE)
    )
    def list(self, request: Request) -> Response:
        """What your sessions used on the last `days`, today included; a day begins at midnight UTC."""
        asked, named, owner = self.asked, named_person(request), request.user
        last = usage.today()
        first = last - timedelta(days=(asked.whole("days", least=1, most=usage.LONGEST) or USUAL) - 1)
        only = {name: asked.text(name) for name in ("agent", "model") if asked.text(name)}
        if named is None:
            return Response(usage_json(usage.of_owner(owner, first, last, **only)))
        return Response(usage_json(usage.of_person(owner, named, first, last, **only)))


def usage_json(found: Usage) -> dict[str, Any]:
    return {
        "total": _json(found.total),
        "days": [{"day": day, **_json(figures)} for day, figures in found.days.items()],
        "agents": [{"agent": name, **_json(figures)} for name, figures in found.agents.items()],
        "models": [{"model": name or None, **_json(figures)} for name, figures in found.models.items()],
    }


def _json(figures: Figures) -> dict[str, Any]:
    return {
        "turns": figures.turns,
        "failed": figures.failed,
        "errors": figures.errors,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "cached_tokens": figures.cached_tokens,
        "first_token_ms": _spread(figures.first_token),
        "duration_ms": _spread(figures.duration),
    }


def _spread(spread: Spread) -> dict[str, int | None]:
    return {"p50": spread.p50, "p95": spread.p95}
