"""Every error, wherever it was raised, as the one envelope that all surfaces share."""

import logging
import math
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect, JsonResponse
from django.urls import Resolver404, resolve
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions as drf
from rest_framework.response import Response

from convo import errors
from convo.errors import ConvoError
from convo.http.openai_api import ids

logger = logging.getLogger(__name__)

_TRANSLATIONS: dict[type[Exception], type[ConvoError]] = {
    drf.ParseError: errors.Malformed,
    drf.NotAuthenticated: errors.Unauthenticated,
    drf.AuthenticationFailed: errors.Unauthenticated,
    drf.PermissionDenied: errors.Forbidden,
    PermissionDenied: errors.Forbidden,
    drf.NotFound: errors.NotFound,
    Http404: errors.NotFound,
    drf.MethodNotAllowed: errors.MethodNotAllowed,
    drf.NotAcceptable: errors.NotAcceptable,
    drf.UnsupportedMediaType: errors.UnsupportedMedia,
    RequestDataTooBig: errors.TooLarge,
    SuspiciousOperation: errors.InvalidRequest,
    BadRequest: errors.InvalidRequest,
    OperationalError: errors.Unavailable,
    InternalError: errors.Unavailable,
}
# Their messages say what is missing; those of most others in the libraries say less than ours.
_TELLING = (drf.AuthenticationFailed, drf.PermissionDenied, SuspiciousOperation, BadRequest)


def envelope(error: ConvoError) -> dict[str, Any]:
    """The error as clients read it; beside it stand the ids of what it concerns."""
    inner = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": inner, **error.details}


def headers(error: ConvoError) -> dict[str, str]:
    found = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        found["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status == 401:
        found["WWW-Authenticate"] = 'Bearer realm="convo"'
    return found


def v1_status(error: ConvoError) -> int:
    return error.v1_status or error.status


def v1_envelope(error: ConvoError) -> dict[str, Any]:
    """The error as OpenAI's clients read it: four keys, and nothing beside them."""
    code = error.code if error.v1_code is None else error.v1_code or None
    param = error.v1_param or error.param
    kind = error.type if v1_status(error) >= 500 else "invalid_request_error"
    return {"error": {"message": error.message, "type": kind, "param": param, "code": code}}


def v1_headers(error: ConvoError) -> dict[str, str]:
    """These clients send a 409 and every 5xx again by themselves, unless they are told not to."""
    status = v1_status(error)
    in_vain = status == 409 and not isinstance(error, errors.KeyInFlight)
    again = {"x-should-retry": "false"} if in_vain or (status >= 500 and error.kept) else {}
    return {"x-request-id": ids.request_id(), **headers(error), **again}


def translate(error: Exception) -> ConvoError | None:
    """The error of ours that says the same, or None for one that nobody expected."""
    if isinstance(error, ConvoError):
        return error
    if isinstance(error, drf.ValidationError):
        return _invalid(error.detail)
    if str(error).startswith("CSRF"):
        return errors.CsrfFailed(f"{error} Reload the page, or send an API key in place of a cookie.")
    for kind, ours in _TRANSLATIONS.items():
        if isinstance(error, kind):
            told = str(error) if isinstance(error, _TELLING) else None
            return ours(told, retry_after=1 if ours is errors.Unavailable else None)
    return None


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """Django REST framework's hook: what to answer when a view raises."""
    ours = caught(error, context)
    return Response(envelope(ours), status=ours.status, headers=headers(ours))


def caught(error: Exception, context: dict[str, Any]) -> ConvoError:
    """The error to answer with when a view raises; of one that nobody expected only the log tells more."""
    ours = translate(error)
    if ours is None:
        # As Django does where nobody catches it: for the log, and for whoever watches over errors.
        got_request_exception.send(sender=type(context["view"]), request=context["request"]._request)
        logger.error("a view failed", exc_info=error)
        return ConvoError()
    if isinstance(error, OperationalError):
        # The caller hears only that the database is away.
        logger.error("database: %s", type(error).__name__)
    return ours


def respond(error: ConvoError) -> HttpResponse:
    """The same answer outside of Django REST framework."""
    return JsonResponse(envelope(error), status=error.status, headers=headers(error))


def v1_respond(error: ConvoError) -> HttpResponse:
    """An answer to OpenAI's clients, outside of Django REST framework."""
    return JsonResponse(v1_envelope(error), status=v1_status(error), headers=v1_headers(error))


# No page of ours sends anything here, so there is nothing to protect, and the helpful answer must come out.
@csrf_exempt
def missing(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Any address below /api/ that means nothing; one that only lacks its last slash is helped on."""
    try:
        resolved = resolve(request.path + "/")
    except Resolver404:
        resolved = None
    if resolved is None or resolved.func is missing or request.path.endswith("/"):
        return respond(errors.NotFound(f"Nothing is at {request.path}. See /api/docs/ for what there is."))
    if request.method in {"GET", "HEAD"}:
        return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
    return respond(errors.NotFound(f"This address ends in a slash: {request.path}/"))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: a forged host, or a form that cannot be read."""
    error = translate(exception) or errors.InvalidRequest()
    return v1_respond(error) if request.path.startswith("/v1/") else respond(error)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: a bug is told to programs in the envelope, to people on a page."""
    if request.path.startswith("/v1/"):
        return v1_respond(ConvoError())
    if request.path.startswith("/api/"):
        return respond(ConvoError())
    return defaults.server_error(request)


def _invalid(detail: Any) -> ConvoError:
    path, first = _first("", detail)
    code = getattr(first, "code", "")
    if code == "unknown":
        return errors.UnknownParameter(str(first), param=path or None)
    kind = errors.MissingParameter if code == "required" else errors.InvalidRequest
    return kind(f"{path}: {first}" if path else str(first), param=path or None)


def _first(path: str, detail: Any) -> tuple[str, Any]:
    """The first complaint, and the place that it is about, as messages[0].role."""
    if isinstance(detail, dict):
        key, inner = next(iter(detail.items()))
        if key == "non_field_errors":
            return _first(path, inner)
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
        return _first(path + step, inner)
    if isinstance(detail, list):
        index, inner = next((pair for pair in enumerate(detail) if pair[1]), (0, "not valid"))
        return _first(f"{path}[{index}]", inner) if isinstance(inner, dict | list) else (path, inner)
    return path, detail
