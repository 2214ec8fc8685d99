"""The base of all /v1 views: authentication, JSON in and out, request ids, and the query string."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db.models import QuerySet
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from convo import agents, history
from convo.errors import ConvoError, InvalidRequest, NotFound, ResultDeleted
from convo.http import errors
from convo.http.auth import HasScope, KeyAuthentication, person_in_header, validate_person
from convo.http.errors import SAME_NAMES
from convo.http.idempotency import KEY_HEADER, process_once
from convo.http.openapi import ConvoAutoSchema
from convo.http.query import QueryParams
from convo.http.strict_json import StrictJSONParser
from convo.models import NOBODY, Session, Turn, TurnRequest
from convo.openai_api import ids
from convo.openai_api.validation import PersonFields, validate
from convo.request_context import request_id

REQUEST_ID_HEADER = "x-request-id"


class AlwaysJson(BaseContentNegotiation):
    """Content negotiation that always chooses JSON, whatever `Accept` and `Content-Type` say."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class V1View(APIView):
    """One URL of the OpenAI-compatible API."""

    authentication_classes = [KeyAuthentication]
    permission_classes = [HasScope]
    parser_classes = [StrictJSONParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AlwaysJson
    schema = ConvoAutoSchema()

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Any]:
        return handle_exception

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.params = QueryParams(request.query_params, ignore_empty=True)
        if self.params.boolean("beta"):
            raise NotFound("OpenAI's beta API is not available here. Call this without `beta=true`.")

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault(REQUEST_ID_HEADER, request_id())
        return super().finalize_response(request, response, *args, **kwargs)

    def body(self) -> Any:
        """Return the JSON of the body, or an empty object if no body was sent."""
        return {} if self.request.data is None else self.request.data

    def idempotent(
        self,
        write: Callable[[], Response],
        turn_of: Callable[[Response], Turn] | None = None,
        *,
        person: str | None = None,
    ) -> Response:
        """Process this write once per Idempotency-Key, and return its response to every repetition.

        `turn_of` returns the turn that the response quotes; the stored response is deleted with that turn.
        """
        person = person or person_in_header(self.request)
        return process_once(self.request, write, turn_of, person=person, refuse=error_response)

    def conversations(self) -> QuerySet[Session]:
        """Return the caller's conversations, or only those of one end user if the request names one."""
        sessions = Session.objects.owned_by(self.request.user)
        rows = sessions.filter(storage=Session.Storage.PERSISTENT).select_related("person")
        refs = self.person_refs()
        return rows if refs is None else rows.filter(person__ref__in=refs)

    def turn_requests(self, surface: str, person: str | None = None) -> QuerySet[TurnRequest]:
        """Return the requests whose results the caller may retrieve, or only those of one end user."""
        rows = TurnRequest.objects.owned_by(self.request.user, surface)
        refs = self.person_refs(person)
        return rows if refs is None else rows.filter(turn__session__person__ref__in=refs)

    def person_refs(self, person: str | None = None) -> list[str] | None:
        """Return the refs of the end users whose conversations this request may see, or None for all.

        Clients that send `user` or `safety_identifier` need not know Convo: the conversations that they began
        without a name belong to nobody, and they continue those under a name. X-Convo-User and
        `metadata.user` exist only here, so they select one end user strictly.
        """
        header_ref = person_in_header(self.request)
        name = person or header_ref
        if not name:
            return None
        metadata = self.request.data.get("metadata") if isinstance(self.request.data, dict) else None
        is_strict = bool(header_ref) or (isinstance(metadata, dict) and "user" in metadata)
        ref = validate_person(name, "X-Convo-User")
        return [ref] if is_strict else [ref, NOBODY]

    def conversation(self, id: str, person: str | None = None, *, param: str = "conversation_id") -> Session:
        """Return the caller's conversation. An unknown id and another owner's give the same 404."""
        key, person_refs = ids.uuid_of(ids.CONVERSATION, id), self.person_refs(person)
        session = history.find_session(self.request.user, key, person_refs=person_refs) if key else None
        # Clients expect a conversation to last, so ephemeral ones exist in REST and on the pages only.
        if session is None or session.storage != Session.Storage.PERSISTENT:
            raise NotFound(f"Conversation with id '{id}' not found.", param=param)
        return session


def require_stored_session(session: Session) -> Session:
    """Return this new session, or refuse an agent that stores no conversations: this API has no others."""
    if session.storage != Session.Storage.PERSISTENT:
        raise InvalidRequest(
            f"Agent {session.agent!r} stores no conversations. Call it without one, or use the REST API.",
            param="model",
        )
    return session


def stores_conversations(agent: str) -> bool:
    return agents.get(agent).storage == "persistent"


def handle_exception(error: Exception, context: dict[str, Any]) -> Response:
    """Return the response to an exception of a view, as Django REST framework's exception handler."""
    return error_response(errors.convo_error_for(error, context))


def error_response(
    error: ConvoError, *, param_names: Mapping[str, str] = SAME_NAMES, has_stored_input: bool = False
) -> Response:
    return Response(
        errors.v1_envelope(error, param_names),
        status=errors.v1_status(error),
        headers=errors.v1_headers(error, has_stored_input=has_stored_input),
    )


def stored_request(turn: Turn) -> TurnRequest:
    """Return the request that began this turn, or raise ResultDeleted if it is gone or was not stored."""
    turn_request = TurnRequest.objects.filter(turn=turn).first()
    if turn_request is None:
        # With storage `none`, no request is stored either.
        raise ResultDeleted(
            "This response was not stored, so it can't be replayed. Use a new Idempotency-Key.",
            param=KEY_HEADER,
        )
    if not turn_request.params:
        # Every request has parameters; deleting the response removes them.
        raise ResultDeleted(param=KEY_HEADER)
    return turn_request


def person_of(request: Request, body: object) -> str | None:
    """Return the end user whom a request is about, or None if it names none."""
    fields = validate(PersonFields, body)
    refs = {
        "X-Convo-User": person_in_header(request),
        "metadata.user": (fields.metadata or {}).get("user"),
        "safety_identifier": fields.safety_identifier,
        "user": fields.user,
    }
    return next((validate_person(ref, param) for param, ref in refs.items() if ref), None)
