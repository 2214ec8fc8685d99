"""What all /v1 views share: who may call, what is read, and that every answer is JSON with a request id."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import QuerySet
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from convo import agents
from convo.errors import ConvoError, InvalidRequest, NotFound
from convo.http import errors
from convo.http.auth import HasScope, KeyAuthentication, header_person, person_ref
from convo.http.once import idempotency_key, once_by
from convo.http.openai_api import ids
from convo.http.openai_api.body import Body, invalid
from convo.http.parsing import JSONParser
from convo.http.rest.schema import Described
from convo.models import NOBODY, Session, Turn

REQUEST_ID = "x-request-id"


class AlwaysJson(BaseContentNegotiation):
    """Whatever `Accept` and `Content-Type` say: JSON in, JSON out."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        only = next(iter(renderers))
        return only, str(only.media_type)


class V1View(APIView):
    """One address of the OpenAI-compatible API."""

    authentication_classes = [KeyAuthentication]
    permission_classes = [HasScope]
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AlwaysJson
    schema = Described()

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Any]:
        return refuse

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault(REQUEST_ID, ids.request_id())
        return super().finalize_response(request, response, *args, **kwargs)

    def body(self) -> Body:
        """The JSON object that was sent; one without fields when nothing was."""
        return Body({} if self.request.data is None else self.request.data)

    def once(
        self,
        write: Callable[[], Response],
        about: Callable[[Response], Turn] | None = None,
        *,
        person: str | None = None,
    ) -> Response:
        """The answer to this write, made once however often it is sent under one Idempotency-Key."""
        key = idempotency_key(self.request, person or header_person(self.request))
        return once_by(key, write, about, refusal)

    def conversations(self, person: str | None = None) -> QuerySet[Session]:
        """The caller's conversations; those of one end user, when one is named."""
        # What a client finds here it takes to be kept: temporary chats are for REST and the pages.
        kept = Session.objects.of(self.request.user).filter(storage=Session.Storage.KEPT)
        rows = kept.select_related("person")
        refs = self.people(person)
        return rows if refs is None else rows.filter(person__ref__in=refs)

    def people(self, person: str | None = None) -> list[str] | None:
        """The end users whose conversations this request may see, by their names; None: all of the owner's.

        `user` and `safety_identifier` are sent by clients that know nothing of ours: what they began without
        a name is nobody's, and they go on with it under one. What names an end user to us alone is strict.
        """
        strict = header_person(self.request)
        named = person or strict
        if not named:
            return None
        given = self.request.data.get("metadata") if isinstance(self.request.data, dict) else None
        is_strict = bool(strict) or (isinstance(given, dict) and "user" in given)
        ref = person_ref(named, "X-Convo-User")
        return [ref] if is_strict else [ref, NOBODY]

    def conversation(self, id: str, person: str | None = None, *, param: str = "conversation_id") -> Session:
        """The caller's conversation of this id; an unknown one and somebody else's are the same 404."""
        key = ids.uuid_of(ids.CONVERSATION, id)
        found = self.conversations(person).filter(pk=key).first() if key else None
        if found is None:
            raise NotFound(f"Conversation with id '{id}' not found.", param=param)
        return found


def kept(session: Session) -> Session:
    """This new session, which is kept: there is no other kind in this API."""
    if session.storage != Session.Storage.KEPT:
        raise InvalidRequest(
            f"Agent {session.agent!r} keeps no conversation. Ask it without one, or over REST.", param="model"
        )
    return session


def keeps(agent: str) -> bool:
    """May what this agent is asked be kept?"""
    return agents.get(agent).storage == "kept"


def refuse(error: Exception, context: dict[str, Any]) -> Response:
    """Django REST framework's hook: what to answer when a view raises."""
    return refusal(errors.caught(error, context))


def refusal(error: ConvoError) -> Response:
    """The answer that tells this error."""
    return Response(
        errors.v1_envelope(error), status=errors.v1_status(error), headers=errors.v1_headers(error)
    )


def person_of(request: Request, body: Body) -> str | None:
    """The end user whom a request is about; None when it names none."""
    found = {
        "X-Convo-User": header_person(request),
        "metadata.user": (body.metadata() or {}).get("user"),
        "safety_identifier": body.text("safety_identifier"),
        "user": body.text("user"),
    }
    return next((person_ref(ref, param) for param, ref in found.items() if ref), None)


def values(request: Request, name: str) -> list[str]:
    """A list in the query string: `include[]=a&include[]=b`, and `include=a` as well."""
    given = request.query_params
    return [_printable(name, value) for value in (*given.getlist(f"{name}[]"), *given.getlist(name))]


def flag(request: Request, name: str) -> bool:
    """A yes or no in the query string."""
    given = request.query_params.get(name, "")
    if given.lower() not in {"", "true", "false", "1", "0"}:
        raise invalid(name, "expected true or false.")
    return given.lower() in {"true", "1"}


def whole(request: Request, name: str) -> int | None:
    """A whole number in the query string."""
    given = request.query_params.get(name, "")
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 15):
        raise invalid(name, "expected a whole number, 0 or more.")
    return int(given)


def mapped(request: Request, name: str) -> dict[str, str]:
    """A map in the query string: `metadata[topic]=x`."""
    keys = {key: re.fullmatch(rf"{name}\[(.+)\]", key) for key in request.query_params}
    return {
        _printable(name, match[1]): _printable(name, request.query_params[key])
        for key, match in keys.items()
        if match
    }


def _printable(name: str, value: str) -> str:
    if not value.isprintable():
        raise invalid(name, "this holds characters that cannot be printed.")
    return value
