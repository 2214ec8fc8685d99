"""Authentication, the scopes of API keys, and the person that a request is about."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from convo import request_context
from convo.errors import Forbidden, InvalidRequest
from convo.models import ME, NOBODY, ApiKey


class KeyAuthentication(BaseAuthentication):
    """Authentication with one of Convo's API keys: `Authorization: Bearer KEY`."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey] | None:
        scheme, _, raw = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        key = ApiKey.objects.find(raw.strip()) if raw.isascii() and "\0" not in raw else None
        if key is None:
            # On its own error, Django REST framework drops the caller, and the browsable API can show a page.
            raise AuthenticationFailed("This API key is not valid: unknown, expired or revoked.")
        if context := request_context.current():
            context.key_prefix = key.prefix
        key.record_use()
        return key.owner, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="convo"'


def api_key_of(request: Request) -> ApiKey | None:
    """Return the API key of this request, or None for a user who signed in."""
    return request.auth if isinstance(request.auth, ApiKey) else None


AUTHENTICATION = [KeyAuthentication, SessionAuthentication]


def scope_for(view: APIView, method: str | None) -> str:
    """Return the scope that a key needs: the one that the view sets for its action, else read or write."""
    scopes: Mapping[str, str] = getattr(view, "scopes", {})
    default = "read" if method in SAFE_METHODS else "write"
    return scopes.get(getattr(view, "action", None) or "", default)


class HasScope(BasePermission):
    """Permission for users who signed in, and for API keys within their scopes."""

    message = ""

    def has_permission(self, request: Request, view: APIView) -> bool:
        required_scope = scope_for(view, request.method)
        key = api_key_of(request)
        if key and required_scope not in key.scopes:
            suggested_scopes = ",".join(
                scope for scope in ApiKey.SCOPES if scope in {*key.scopes, required_scope}
            )
            self.message = (
                f"This key lacks the scope {required_scope!r}; it has: {', '.join(key.scopes)}. "
                f"Use a key that has it: manage.py create_key USERNAME --scopes {suggested_scopes}"
            )
            return False
        return not isinstance(request.user, AnonymousUser)


def requested_person(request: Request, body_name: str | None = None) -> str | None:
    """Return the person that the request names, in its body, query or header; None if it names none."""
    names = {
        name for name in (body_name, request.query_params.get("user"), person_in_header(request)) if name
    }
    if len(names) > 1:
        raise InvalidRequest("`user` and the header X-Convo-User name different people.", param="user")
    ref = next(iter(names), None)
    return None if ref is None else validate_person(ref)


def validate_person(ref: str, param: str = "user") -> str:
    """Return this name of a person, or raise InvalidRequest if it can't be one."""
    if len(ref) > 255 or not ref.isprintable():
        raise InvalidRequest(f"`{param}` takes up to 255 printable characters.", param=param)
    if ref == ME:
        raise InvalidRequest(f"{ME!r} is the signed-in owner's own name. Use another.", param=param)
    return ref


def person_in_header(request: Request) -> str:
    """Return the name in the header X-Convo-User, or an empty string."""
    # Servers decode all headers as Latin-1.
    raw = request.META.get("HTTP_X_CONVO_USER", "").encode("latin-1", "replace")
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest("The header X-Convo-User is not UTF-8.", param="user") from error


def person_for_session(request: Request, body_name: str | None = None) -> str:
    """Return the person of a new session: the one named, else the owner or, with an API key, nobody."""
    ref = requested_person(request, body_name)
    default_ref = NOBODY if api_key_of(request) else ME
    return default_ref if ref is None else ref


def check_roles(request: Request, roles: list[str]) -> None:
    """Raise Forbidden unless the caller may append messages of these roles.

    People who signed in write as users. An API key is the application, which may add what its model said.
    """
    key, allowed = api_key_of(request), {"user"}
    if key:
        allowed |= {"assistant", "tool"}
        if "import" in key.scopes:
            allowed |= {"system", "developer"}
    for index, role in enumerate(roles):
        if role not in allowed:
            raise Forbidden(
                f"These credentials may append messages of role {', '.join(sorted(allowed))}, not {role!r}.",
                param=f"messages[{index}].role",
            )
