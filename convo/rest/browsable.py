"""The browsable API: each address as a page with its response, links, and a form for every method."""

from collections.abc import Mapping
from json import dumps, loads
from typing import Any, NamedTuple

from django.conf import settings
from django.shortcuts import resolve_url
from django.urls import Resolver404, ResolverMatch, resolve, reverse
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.views import APIView

from convo.rest import forms

_INDENT = "    "


class Link(NamedTuple):
    """A link on a page of the browsable API."""

    name: str
    url: str


class BrowsableRenderer(BrowsableAPIRenderer):
    """A response as a page. Without our template it is REST framework's own page, with fewer forms."""

    def get_context(
        self, data: Any, accepted_media_type: str | None, renderer_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        view, request = renderer_context["view"], renderer_context["request"]
        status = renderer_context["response"].status_code
        context = super().get_context(data, accepted_media_type, renderer_context)
        breadcrumbs = breadcrumb_links(request)
        return {
            **context,
            "breadcrumbs": breadcrumbs[:-1],
            "heading": breadcrumbs[-1].name if breadcrumbs else context["name"],
            "help_texts": help_texts(view),
            "forms": []
            if is_missing(view, request, status)
            else forms.build_forms(view, request, data, status),
            "related_links": [] if is_missing(view, request, status) else related_links(view, request),
            "response_json": "" if data is None else render(data, request, view.kwargs.get("session")),
            "refused": status >= 400,
            # The allowed methods are no secret, so an address without GET lists them for everybody.
            "lists_methods": status == 405 and request.method == "GET",
            "sign_in": f"{resolve_url(settings.LOGIN_URL)}?next={request.path}",
        }


def is_missing(view: Any, request: Request, status: int) -> bool:
    """Return whether nothing is at this address: it was never there, or this call deleted it."""
    if status == 204:
        return bool(view.action == "destroy")
    return status == 404 and request.method in {"GET", "DELETE"}


def help_texts(view: Any) -> list[str]:
    """Return the docstrings of the view and of the current action, for the top of the page."""
    action = getattr(view, getattr(view, "action", None) or "", None)
    docstrings = [type(view).__doc__, getattr(action, "__doc__", None)]
    return [" ".join(text.split()) for text in docstrings if text]


def breadcrumb_links(request: Request) -> list[Link]:
    """Return the breadcrumbs: links from the root of the API to this address."""
    path = request.path_info
    script = request.path.removesuffix(path)
    lengths = [length for length, character in enumerate(path, 1) if character == "/"]
    matches = [(path[:length], _resolve_api_view(path[:length])) for length in lengths]
    return [Link(_link_name(prefix, match), script + prefix) for prefix, match in matches if match]


def _resolve_api_view(path: str) -> ResolverMatch | None:
    try:
        match = resolve(path)
    except Resolver404:
        return None
    view_class = getattr(match.func, "cls", None)
    return match if view_class and issubclass(view_class, APIView) else None


def _link_name(path: str, match: ResolverMatch) -> str:
    segment = path.rstrip("/").rpartition("/")[2]
    initkwargs = getattr(match.func, "initkwargs", {})
    if "basename" not in initkwargs:
        return "API"
    if initkwargs["detail"] and "name" not in initkwargs:
        return f"{initkwargs['basename'].capitalize()} {segment[:8]}"
    return segment.capitalize()


def related_links(view: Any, request: Request) -> list[Link]:
    """Return links to the other addresses of the same object: its extra actions and related lists."""
    if not hasattr(view, "get_extra_action_url_map"):
        return []
    action_urls: dict[str, str] = view.get_extra_action_url_map() or {}
    related_urls = {
        name: request.build_absolute_uri(reverse(route, kwargs={"session": view.kwargs["pk"]}))
        for name, route in view.related_lists.items()
        if "pk" in view.kwargs
    }
    current_url = request.build_absolute_uri(request.path)
    return [Link(name, url) for name, url in {**action_urls, **related_urls}.items() if url != current_url]


def render(data: Any, request: Request, session: str | None = None) -> SafeString:
    """Render the data as indented JSON with links; `session` is the id of the session it is about."""
    api = request.build_absolute_uri(reverse("api-root"))
    return _Writer(api).write(loads(dumps(data, cls=JSONEncoder)), {}, session)


class _Writer:
    def __init__(self, api: str) -> None:
        self._api = api

    def write(
        self, value: Any, parent: Mapping[str, Any], session: str | None, key: str = "", indent: str = ""
    ) -> SafeString:
        if isinstance(value, dict):
            session = _session_id(value) or session
            rows = [
                format_html(
                    "{}: {}", _escaped_json(name), self.write(child, value, session, name, indent + _INDENT)
                )
                for name, child in value.items()
            ]
            return _join_lines("{", rows, "}", indent)
        if isinstance(value, list):
            items = [self.write(child, parent, session, key, indent + _INDENT) for child in value]
            return _join_lines("[", items, "]", indent)
        url, text = self._link_target(key, value, parent, session), _escaped_json(value)
        return format_html('<a href="{}">{}</a>', url, text) if url else text

    def _link_target(
        self, key: str, value: Any, parent: Mapping[str, Any], session: str | None
    ) -> str | None:
        if isinstance(value, str) and value.startswith(self._api):
            return value
        match key, value:
            case "session", str():
                return reverse("session-detail", args=[value])
            case "id", str() if "message_count" in parent:
                return reverse("session-detail", args=[value])
            case "id" | "superseded_by", str() if "valid_from" in parent:
                return reverse("memory-detail", args=[value])
            case "turn" | "number" | "alternatives", int() if session:
                return reverse("turn-detail", args=[session, value])
            case "position", int() if session and "role" in parent:
                return reverse("message-detail", args=[session, value])
        return None


def _session_id(value: Mapping[str, Any]) -> str | None:
    """Return the id of the session that this object is, or belongs to."""
    session = value.get("id") if "message_count" in value else value.get("session")
    return session if isinstance(session, str) else None


def _escaped_json(value: Any) -> SafeString:
    return mark_safe(escape(dumps(value, ensure_ascii=False)))


def _join_lines(opening: str, rows: list[SafeString], closing: str, indent: str) -> SafeString:
    if not rows:
        return mark_safe(opening + closing)
    lines = format_html_join(",\n", "{}{}", ((indent + _INDENT, row) for row in rows))
    return format_html("{}\n{}\n{}{}", opening, lines, indent, closing)
