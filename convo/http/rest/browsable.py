"""The API as pages: what was answered, where it leads, and a form for every call of the address."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.shortcuts import resolve_url
from django.urls import Resolver404, ResolverMatch, resolve, reverse
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from convo.http.rest import forms, linked


class Place(NamedTuple):
    """An address and what it is called."""

    name: str
    address: str


class Page(BrowsableAPIRenderer):
    """An answer as a page. Without our template it is the framework's own page, with fewer forms."""

    def get_context(
        self, data: Any, accepted_media_type: str | None, renderer_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        view, request = renderer_context["view"], renderer_context["request"]
        status = renderer_context["response"].status_code
        context = super().get_context(data, accepted_media_type, renderer_context)
        way = way_to(request)
        return {
            **context,
            "way": way[:-1],
            "heading": way[-1].name if way else context["name"],
            "about": help_of(view),
            "forms": [] if is_gone(view, request, status) else forms.of(view, request, data, status),
            "leads_to": [] if is_gone(view, request, status) else leads_to(view, request),
            "told": "" if data is None else linked.json(data, request, view.kwargs.get("session")),
            "refused": status >= 400,
            # Nothing to hide: whoever looks knows what there is to call.
            "only_for": status == 405 and request.method == "GET",
            "sign_in": f"{resolve_url(settings.LOGIN_URL)}?next={request.path}",
        }


def is_gone(view: Any, request: Request, status: int) -> bool:
    """Is nothing at this address, before or after this call?"""
    if status == 204:
        return bool(view.action == "destroy")
    return status == 404 and request.method in {"GET", "DELETE"}


def help_of(view: Any) -> list[str]:
    """What is said of this address: of what stands here, then of reading it."""
    reading = getattr(view, getattr(view, "action", None) or "", None)
    told = [type(view).__doc__, getattr(reading, "__doc__", None)]
    return [" ".join(text.split()) for text in told if text]


def way_to(request: Request) -> list[Place]:
    """The places from the root of the API to this one."""
    path = request.path_info
    script = request.path.removesuffix(path)
    ends = [at for at, sign in enumerate(path, 1) if sign == "/"]
    found = [(path[:end], _match(path[:end])) for end in ends]
    return [Place(_name(part, match), script + part) for part, match in found if match]


def _match(path: str) -> ResolverMatch | None:
    try:
        match = resolve(path)
    except Resolver404:
        return None
    kind = getattr(match.func, "cls", None)
    return match if kind and issubclass(kind, APIView) else None


def _name(path: str, match: ResolverMatch) -> str:
    last = path.rstrip("/").rpartition("/")[2]
    options = getattr(match.func, "initkwargs", {})
    if "basename" not in options:
        return "API"
    if options["detail"] and "name" not in options:
        return f"{options['basename'].capitalize()} {last[:8]}"
    return last.capitalize()


def leads_to(view: Any, request: Request) -> list[Place]:
    """What else there is of the same thing."""
    if not hasattr(view, "get_extra_action_url_map"):
        return []
    own: dict[str, str] = view.get_extra_action_url_map() or {}
    more = {
        name: request.build_absolute_uri(reverse(route, kwargs={"session": view.kwargs["pk"]}))
        for name, route in view.related.items()
        if "pk" in view.kwargs
    }
    here = request.build_absolute_uri(request.path)
    return [Place(name, address) for name, address in {**own, **more}.items() if address != here]
