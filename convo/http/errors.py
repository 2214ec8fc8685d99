"""Translate every error, wherever it was raised, into the JSON envelope of its surface."""

import logging
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect, JsonResponse
from django.urls import Resolver404, resolve
from django.utils.deprecation import MiddlewareMixin
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions as drf
from rest_framework.response import Response

from convo import database, errors
from convo.errors import ConvoError
from convo.request_context import request_id

logger = logging.getLogger(__name__)

_TRANSLATIONS: dict[type[Exception], type[ConvoError]] = {
    drf.ParseError: errors.MalformedBody,
    drf.NotAuthenticated: errors.NotAuthenticated,
    drf.AuthenticationFailed: errors.NotAuthenticated,
    drf.PermissionDenied: errors.Forbidden,
    PermissionDenied: errors.Forbidden,
    drf.NotFound: errors.NotFound,
    Http404: errors.NotFound,
    drf.MethodNotAllowed: errors.MethodNotAllowed,
    drf.NotAcceptable: errors.NotAcceptable,
    drf.UnsupportedMediaType: errors.UnsupportedMediaType,
    RequestDataTooBig: errors.BodyTooLarge,
    SuspiciousOperation: errors.InvalidRequest,
    BadRequest: errors.InvalidRequest,
    OperationalError: errors.DatabaseUnavailable,
    InternalError: errors.DatabaseUnavailable,
}
# The messages of these say what is missing; the other messages of the libraries say less than ours.
_WITH_OWN_MESSAGE = (drf.AuthenticationFailed, drf.PermissionDenied, SuspiciousOperation, BadRequest)

SAME_NAMES: Mapping[str, str] = MappingProxyType({})


def envelope(error: ConvoError) -> dict[str, Any]:
    """Return the error as JSON, together with the ids of what it concerns."""
    inner = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": inner, **error.details}


def headers(error: ConvoError) -> dict[str, str]:
    header_values = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        header_values["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status == 401:
        header_values["WWW-Authenticate"] = 'Bearer realm="convo"'
    return header_values


def v1_status(error: ConvoError) -> int:
    return error.v1_status or error.status


def v1_envelope(error: ConvoError, param_names: Mapping[str, str] = SAME_NAMES) -> dict[str, Any]:
    """Return the error as OpenAI's clients read it: four keys and nothing else.

    `param_names` maps names of the core or the model server to those that the client sent.
    """
    code = error.code if error.v1_code is None else error.v1_code or None
    param = error.v1_param or error.param
    param = param_names.get(param or "", param)
    kind = error.type if v1_status(error) >= 500 else "invalid_request_error"
    return {"error": {"message": error.message, "type": kind, "param": param, "code": code}}


def v1_headers(error: ConvoError, *, has_stored_input: bool = False) -> dict[str, str]:
    """Return the headers for OpenAI's clients, which retry a 409 and every 5xx unless told not to.

    With `has_stored_input`, a repeated request would store its input twice.
    """
    status = v1_status(error)
    is_final_conflict = status == 409 and not isinstance(error, errors.IdempotencyKeyInUse)
    is_rejected = isinstance(error, errors.UpstreamRejected)
    retry_header = (
        {"x-should-retry": "false"}
        if is_final_conflict or (status >= 500 and (is_rejected or has_stored_input))
        else {}
    )
    return {"x-request-id": request_id(), **headers(error), **retry_header}


def translate(error: Exception) -> ConvoError | None:
    """Return the ConvoError that says the same, or None for an unexpected error."""
    if isinstance(error, ConvoError):
        return error
    if isinstance(error, drf.ValidationError):
        return _validation_error(error.detail)
    if str(error).startswith("CSRF"):
        return errors.CsrfFailed(f"{error} Reload the page, or send an API key in place of a cookie.")
    for error_class, convo_class in _TRANSLATIONS.items():
        if isinstance(error, error_class):
            message = str(error) if isinstance(error, _WITH_OWN_MESSAGE) else None
            return convo_class(message)
    return None


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """Return the response to an error that a view raised: Django REST framework's EXCEPTION_HANDLER."""
    return rest_response(convo_error_for(error, context))


def rest_response(error: ConvoError) -> Response:
    return Response(envelope(error), status=error.status, headers=headers(error))


def convo_error_for(error: Exception, context: dict[str, Any]) -> ConvoError:
    """Return the error to answer with. Only the log has the details of an unexpected one."""
    convo_error = translate(error)
    if convo_error is None:
        # Django sends this signal for every uncaught exception, and error trackers listen to it.
        got_request_exception.send(sender=type(context["view"]), request=context["request"]._request)
        logger.error("a view failed", exc_info=error)
        return ConvoError()
    if isinstance(error, OperationalError | InternalError):
        # The response says only that the database can't be reached.
        logger.error("database: %s", database.describe_failure(error))
    return convo_error


def error_response(error: ConvoError) -> HttpResponse:
    """Return the same response outside of Django REST framework."""
    return JsonResponse(envelope(error), status=error.status, headers=headers(error))


def v1_error_response(error: ConvoError) -> HttpResponse:
    return JsonResponse(v1_envelope(error), status=v1_status(error), headers=v1_headers(error))


# No page posts here, so there is nothing to protect, and a CSRF error would hide the helpful answer.
@csrf_exempt
def api_not_found(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Answer 404 for an unknown address below /api/; redirect if only the trailing slash is missing."""
    try:
        match = resolve(request.path + "/")
    except Resolver404:
        match = None
    if match is None or match.func is api_not_found or request.path.endswith("/"):
        return error_response(
            errors.NotFound(f"There is nothing at {request.path}. See /api/docs/ for what there is.")
        )
    if request.method in {"GET", "HEAD"}:
        return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
    return error_response(errors.NotFound(f"The trailing slash is missing. Use {request.path}/"))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a forged host or an unreadable form: Django's handler400."""
    error = translate(exception) or errors.InvalidRequest()
    return v1_error_response(error) if request.path.startswith("/v1/") else error_response(error)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an unexpected error, with JSON on the APIs and a page elsewhere: Django's handler500."""
    return _respond_by_path(request, ConvoError())


class DatabaseErrors(MiddlewareMixin):
    """Answer 503 on pages when the database is down or takes no writes. The APIs handle that themselves."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, OperationalError | InternalError):
            return None
        logger.error("database: %s", database.describe_failure(error))
        return _respond_by_path(request, errors.DatabaseUnavailable())


def _respond_by_path(request: HttpRequest, error: ConvoError) -> HttpResponse:
    if request.path.startswith("/v1/"):
        return v1_error_response(error)
    if request.path.startswith("/api/"):
        return error_response(error)
    page = defaults.server_error(request, f"{error.status}.html")
    page.status_code = error.status
    for name, value in headers(error).items():
        page.headers[name] = value
    return page


def _validation_error(detail: Any) -> ConvoError:
    path, message = _first_error("", detail)
    code = getattr(message, "code", "")
    if code == "unknown":
        return errors.UnknownParameter(str(message), param=path or None)
    error_class = errors.MissingParameter if code == "required" else errors.InvalidRequest
    return error_class(f"{path}: {message}" if path else str(message), param=path or None)


def _first_error(path: str, detail: Any) -> tuple[str, Any]:
    """Return the path of the first validation error, such as messages[0].role, and the error itself."""
    if isinstance(detail, dict):
        key, inner = next(iter(detail.items()))
        if key == "non_field_errors":
            return _first_error(path, inner)
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
        return _first_error(path + step, inner)
    if isinstance(detail, list):
        index, inner = next((pair for pair in enumerate(detail) if pair[1]), (0, "not valid"))
        return _first_error(f"{path}[{index}]", inner) if isinstance(inner, dict | list) else (path, inner)
    return path, detail
