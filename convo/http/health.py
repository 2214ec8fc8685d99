"""Is it alive, and does it take work? For load balancers and people."""

from django.core.cache import cache
from django.db import Error, connection
from django.http import HttpRequest, JsonResponse

from convo import turns
from convo.conf import conf


def alive(request: HttpRequest) -> JsonResponse:
    """The process answers; nothing else is asked."""
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> JsonResponse:
    """It takes work: its database answers, and it isn't stopping. A lost cache only makes it slower."""
    parts = {"server": "stopping" if turns.stopping() else "ok", "database": _database(), "cache": _cache()}
    if parts["server"] != "ok" or parts["database"] != "ok":
        return JsonResponse({"status": "unavailable", **parts}, status=503)
    return JsonResponse({"status": "ok" if parts["cache"] == "ok" else "degraded: cache", **parts})


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return "unreachable"
    return "ok"


def _cache() -> str:
    if not conf().redis_url:
        return "ok"
    try:
        cache.set("convo:health", "1", 10)
    except Exception:  # a border: whatever is wrong with the cache, this is about telling it
        return "unreachable"
    return "ok"
