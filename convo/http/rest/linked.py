"""JSON for people to read: what names another thing of the API is a link to it."""

import json as plain
from collections.abc import Mapping
from typing import Any

from django.urls import reverse
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

_STEP = "    "


def json(data: Any, request: Request, session: str | None = None) -> SafeString:
    """The data as JSON on several lines; `session` is the one that it is about."""
    api = request.build_absolute_uri(reverse("api-root"))
    return _Writer(api).write(plain.loads(plain.dumps(data, cls=JSONEncoder)), {}, session)


class _Writer:
    def __init__(self, api: str) -> None:
        self._api = api

    def write(
        self, value: Any, around: Mapping[str, Any], session: str | None, key: str = "", pad: str = ""
    ) -> SafeString:
        if isinstance(value, dict):
            session = _session_of(value) or session
            rows = [
                format_html("{}: {}", _text(name), self.write(inner, value, session, name, pad + _STEP))
                for name, inner in value.items()
            ]
            return _block("{", rows, "}", pad)
        if isinstance(value, list):
            items = [self.write(inner, around, session, key, pad + _STEP) for inner in value]
            return _block("[", items, "]", pad)
        address = self._address(key, value, around, session)
        return format_html('<a href="{}">{}</a>', address, _text(value)) if address else _text(value)

    def _address(self, key: str, value: Any, around: Mapping[str, Any], session: str | None) -> str | None:
        """Where this value leads."""
        if isinstance(value, str) and value.startswith(self._api):
            return value
        match key, value:
            case "session", str():
                return reverse("session-detail", args=[value])
            case "id", str() if "message_count" in around:
                return reverse("session-detail", args=[value])
            case "id" | "superseded_by", str() if "valid_from" in around:
                return reverse("memory-detail", args=[value])
            case "turn" | "number" | "alternatives", int() if session:
                return reverse("turn-detail", args=[session, value])
            case "position", int() if session and "role" in around:
                return reverse("message-detail", args=[session, value])
        return None


def _session_of(value: Mapping[str, Any]) -> str | None:
    """The session that this object is, or that it says it is of."""
    found = value.get("id") if "message_count" in value else value.get("session")
    return found if isinstance(found, str) else None


def _text(value: Any) -> SafeString:
    return mark_safe(escape(plain.dumps(value, ensure_ascii=False)))


def _block(opening: str, rows: list[SafeString], closing: str, pad: str) -> SafeString:
    if not rows:
        return mark_safe(opening + closing)
    lines = format_html_join(",\n", "{}{}", ((pad + _STEP, row) for row in rows))
    return format_html("{}\n{}\n{}{}", opening, lines, pad, closing)
