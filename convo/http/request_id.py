"""Middleware that names each request in the header X-Request-ID and in every line of its log."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from convo import request_context

# `request.headers` would build a mapping of all headers, which most requests have no other use for.
HEADER, META_NAME = "X-Request-ID", "HTTP_X_REQUEST_ID"


@sync_and_async_middleware
def request_id(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Give each request an id, the client's own if it is well-formed. Put this middleware first."""
    # The context is not reset, because Django logs, and streams are read, after this has returned.
    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponseBase:
            id = request_context.start_request(request.META.get(META_NAME, ""))
            return _with_header(await get_response(request), id)

        return async_middleware

    def middleware(request: HttpRequest) -> HttpResponseBase:
        id = request_context.start_request(request.META.get(META_NAME, ""))
        return _with_header(get_response(request), id)

    return middleware


def _with_header(response: HttpResponseBase, id: str) -> HttpResponseBase:
    response.headers[HEADER] = id
    return response
