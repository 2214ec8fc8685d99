"""Headers for browsers: the Content-Security-Policy, the Permissions-Policy and Cache-Control."""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

SELF, NONE, NONCE = "'self'", "'none'", "<CSP_NONCE_SENTINEL>"

# A project can replace this policy with SECURE_CSP in its settings, as in Django 6.
POLICY: Mapping[str, Sequence[str]] = {
    "default-src": [NONE],
    "script-src": [NONCE],
    "style-src": [SELF],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "form-action": [SELF],
    "base-uri": [NONE],
    "frame-ancestors": [NONE],
    "object-src": [NONE],
}
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


class Nonce:
    """The nonce that lets the scripts of this response run; generated when a template first asks for it."""

    def __init__(self) -> None:
        self.value = ""

    def __str__(self) -> str:
        self.value = self.value or secrets.token_urlsafe(16)
        return self.value


@sync_and_async_middleware
def content_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Give each request its `csp_nonce`, and each response the headers that restrict its page."""
    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponseBase:
            request.csp_nonce = nonce = Nonce()  # type: ignore[attr-defined]
            return _add_headers(await get_response(request), nonce)

        return async_middleware

    def middleware(request: HttpRequest) -> HttpResponseBase:
        request.csp_nonce = nonce = Nonce()  # type: ignore[attr-defined]
        return _add_headers(get_response(request), nonce)

    return middleware


def _add_headers(response: HttpResponseBase, nonce: Nonce) -> HttpResponseBase:
    policy = getattr(settings, "SECURE_CSP", POLICY)
    is_usual = policy is POLICY and not nonce.value
    header = _USUAL_HEADER if is_usual else policy_header(policy, nonce.value)
    response.headers.setdefault("Content-Security-Policy", header)
    response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
    # Static files don't pass through here. Everything else is private to somebody, so neither caches nor
    # browsers store it, unless its view says that it is public.
    if not re.search(r"\b(no-store|public)\b", response.headers.get("Cache-Control", "")):
        response.headers["Cache-Control"] = "no-store"
    return response


def policy_header(policy: Mapping[str, Sequence[str]], nonce: str) -> str:
    """Return the policy as a header value. Without a nonce, a page may run the scripts of this server."""
    scripts = f"'nonce-{nonce}'" if nonce else SELF
    return "; ".join(
        " ".join([name, *(scripts if source == NONCE else source for source in sources)])
        for name, sources in policy.items()
    )


_USUAL_HEADER = policy_header(POLICY, "")
