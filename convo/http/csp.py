"""What browsers may do with an answer: the Content-Security-Policy and its kin, and what they may keep."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

SELF, NONE, NONCE = "'self'", "'none'", "<CSP_NONCE_SENTINEL>"

# A project may have another one: SECURE_CSP in its settings, as from Django 6 on.
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
NOT_NEEDED = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


class Nonce:
    """A word that this answer's scripts must say to be run; made when a template asks for it."""

    def __init__(self) -> None:
        self.told = ""

    def __str__(self) -> str:
        self.told = self.told or secrets.token_urlsafe(16)
        return self.told


@sync_and_async_middleware
def content_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Give each request its `csp_nonce`, and each answer the headers that hold its page to it."""
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            nonce = _given(request)
            return _held(await get_response(request), nonce)

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        nonce = _given(request)
        return _held(get_response(request), nonce)

    return answer


def _given(request: HttpRequest) -> Nonce:
    request.csp_nonce = nonce = Nonce()  # type: ignore[attr-defined]
    return nonce


def _held(response: HttpResponseBase, nonce: Nonce) -> HttpResponseBase:
    policy = getattr(settings, "SECURE_CSP", POLICY)
    response.headers.setdefault("Content-Security-Policy", header(policy, nonce.told))
    response.headers.setdefault("Permissions-Policy", NOT_NEEDED)
    # Static files don't come by here. What does is somebody's, and stays in no cache and no drawer.
    if "no-store" not in response.headers.get("Cache-Control", ""):
        response.headers["Cache-Control"] = "no-store"
    return response


def header(policy: Mapping[str, Sequence[str]], nonce: str) -> str:
    """The policy as a header. A page that gives its scripts no nonce may run files of this server's."""
    scripts = f"'nonce-{nonce}'" if nonce else SELF
    return "; ".join(
        " ".join([name, *(scripts if source == NONCE else source for source in sources)])
        for name, sources in policy.items()
    )
