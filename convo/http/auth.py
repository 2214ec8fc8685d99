"""Who is calling, what they may do, and for whom."""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from convo.errors import Forbidden, InvalidRequest
from convo.models import ME, NOBODY, ApiKey


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer KEY`, a key of our own."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey] | None:
        scheme, _, raw = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        key = ApiKey.objects.find(raw.strip()) if raw.isascii() and "\0" not in raw else None
        if key is None:
            # The framework's own error: it forgets the caller, so that the browsable API can show the page.
            raise AuthenticationFailed("This API key is not valid: unknown, expired or revoked.")
        key.used()
        return key.owner, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="convo"'


def key_of(request: Request) -> ApiKey | None:
    """The key that the request came with; None for somebody who signed in."""
    return request.auth if isinstance(request.auth, ApiKey) else None


AUTHENTICATION = [KeyAuthentication, SessionAuthentication]


class HasScope(BasePermission):
    """Signed in, and with a key only what its scopes allow."""

    message = ""

    def has_permission(self, request: Request, view: APIView) -> bool:
        needed = "read" if request.method in SAFE_METHODS else "write"
        key = key_of(request)
        if key and needed not in key.scopes:
            self.message = f"This key lacks the scope {needed!r}; it has: {', '.join(key.scopes)}."
            return False
        return not isinstance(request.user, AnonymousUser)


def named_person(request: Request, named: str | None = None) -> str | None:
    """The end user that the request speaks for, by body, query or header; None when it names none."""
    names = {name for name in (named, request.query_params.get("user"), header_person(request)) if name}
    if len(names) > 1:
        raise InvalidRequest("`user` and the header X-Convo-User name different people.", param="user")
    ref = next(iter(names), None)
    return None if ref is None else person_ref(ref)


def person_ref(ref: str, param: str = "user") -> str:
    """The name of an end user, if it can be one."""
    if len(ref) > 255 or not ref.isprintable():
        raise InvalidRequest(f"`{param}` takes up to 255 printable characters.", param=param)
    if ref == ME:
        raise InvalidRequest(f"{ME!r} is the signed-in owner's own name. Use another.", param=param)
    return ref


def header_person(request: Request) -> str:
    """Whom the header X-Convo-User names; '' for nobody."""
    # Servers hand headers over as Latin-1, whatever they are.
    raw = request.META.get("HTTP_X_CONVO_USER", "").encode("latin-1", "replace")
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest("The header X-Convo-User is not UTF-8.", param="user") from error


def whose(request: Request, named: str | None = None) -> str:
    """The person to whom a new session belongs: who is named, or else the owner, or behind a key nobody."""
    ref = named_person(request, named)
    default = NOBODY if key_of(request) else ME
    return default if ref is None else ref


def check_roles(request: Request, roles: list[str]) -> None:
    """People write as the user that they are; a key is the application, and may tell what its model said."""
    key, allowed = key_of(request), {"user"}
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
