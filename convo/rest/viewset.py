"""The base view set of the REST API."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Model, QuerySet
from rest_framework import renderers, viewsets
from rest_framework.metadata import SimpleMetadata
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from convo import history
from convo.errors import InvalidRequest, NotFound
from convo.http.answer import EVENT_STREAM
from convo.http.auth import requested_person
from convo.http.idempotency import process_once
from convo.http.openapi import ConvoAutoSchema
from convo.http.pagination import paginate
from convo.http.query import QueryParams
from convo.http.strict_json import StrictJSONParser
from convo.models import Session
from convo.rest.browsable import BrowsableRenderer
from convo.rest.reply import frame
from convo.rest.serializer_fields import StrictSerializer
from convo.rest.view import ConvoView

R = TypeVar("R", bound=Model)


class EventStreamRenderer(renderers.BaseRenderer):
    """Lets clients accept event streams; a response that is not a stream, such as an error, is one event."""

    media_type = EVENT_STREAM
    format = "events"
    charset = "utf-8"

    def render(
        self,
        data: dict[str, Any] | None,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        # A 204 with content would break the connection: its client reads that as the next response.
        if data is None:
            return b""
        status = renderer_context["response"].status_code if renderer_context else 200
        return frame(0, "error" if status >= 400 else "message", data)


class OptionsMetadata(SimpleMetadata):
    """Metadata for OPTIONS that is made without looking up the object."""

    def determine_actions(self, request: Request, view: APIView) -> dict[str, object]:
        return {}


@cache
def _serializer(serializer_class: type[StrictSerializer], partial: bool) -> StrictSerializer:
    """Return the one serializer that validates such bodies: each new one would copy all of its fields."""
    return serializer_class(partial=partial)


class ConvoViewSet(ConvoView, viewsets.GenericViewSet[Any]):
    """A view set that depends on no setting of REST framework in the project."""

    parser_classes = [StrictJSONParser, FormParser, MultiPartParser]
    metadata_class = OptionsMetadata
    renderer_classes = [renderers.JSONRenderer, EventStreamRenderer, BrowsableRenderer]
    schema = ConvoAutoSchema()
    pagination_class = None
    filter_backends = []
    # The serializers of the actions' bodies; an action that is not listed takes no fields.
    serializer_classes: Mapping[str, type[StrictSerializer]] = {}
    # The query parameters of the actions, besides `user` and `format`.
    allowed_params: Mapping[str, Sequence[str]] = {}
    # The scopes that actions require of a key, where they differ from their method's.
    scopes: Mapping[str, str] = {}
    # The URL names of lists that belong to the object of `pk`, by the names of their links.
    related_lists: Mapping[str, str] = {}
    # The data of the request before validation, to fill the form of the browsable API again.
    sent_data: object = None

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        super().initial(request, *args, **kwargs)
        self.params = QueryParams(request.query_params)
        self.params.check_names(*self.allowed_params.get(self.action or "", ()), "user", "format")

    def get_serializer_class(self) -> type[StrictSerializer]:
        return self.serializer_classes.get(self.action or "", StrictSerializer)

    def finalize_response(
        self, request: Request, response: Response, *args: object, **kwargs: object
    ) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return super().finalize_response(request, response, *args, **kwargs)

    def validated_body(self, *, partial: bool = False) -> dict[str, Any]:
        """Return the body of the request, validated by the serializer of the action."""
        self.sent_data = self.request.data
        if self.sent_data is None:
            raise InvalidRequest("No data provided")
        return dict(_serializer(self.get_serializer_class(), partial).run_validation(self.sent_data))

    def delete_once(self, delete: Callable[[], object]) -> Response:
        """Delete something, once per idempotency key; the response has no content."""

        def write() -> Response:
            delete()
            return Response(status=204)

        return process_once(self.request, write)

    def list_response(
        self, rows: QuerySet[R], *, order_by: str, render: Callable[[R], dict[str, Any]]
    ) -> Response:
        """Return a page of these rows, the latest `order_by` first."""
        cursor, size = self.params.text("cursor"), self.params.page_size()
        page = paginate(rows, order_by=order_by, cursor=cursor, size=size, owner_id=self.request.user.pk)
        next, previous = (self.link(cursor=link) if link else None for link in (page.next, page.previous))
        return Response({"results": list(map(render, page.rows)), "next": next, "previous": previous})

    def link(self, **changes: Any) -> str:
        """Return the address of this request with other query parameters; None removes one."""
        query_params = {**self.request.query_params.dict(), **changes}
        query = urlencode({name: value for name, value in query_params.items() if value is not None})
        return self.request.build_absolute_uri(f"{self.request.path}?{query}")

    def get_session(self, id: str, user: str | None = None) -> Session:
        """Return the caller's session; an unknown id and somebody else's session raise the same 404."""
        try:
            session_id = UUID(id)
        except ValueError:
            session_id = UUID(int=0)
        person_ref = requested_person(self.request, user)
        person_refs = None if person_ref is None else [person_ref]
        session = history.find_session(self.request.user, session_id, person_refs=person_refs)
        if session is None:
            raise NotFound("There is no such session.", param="session")
        return session
