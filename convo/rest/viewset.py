"""The base view set of the REST API, and the query parameters of a request."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime
from rest_framework import renderers, viewsets
from rest_framework.metadata import SimpleMetadata
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from convo.errors import InvalidRequest, NotFound, UnknownParameter
from convo.http.auth import requested_person
from convo.http.converters import parse_whole_number
from convo.http.openapi import ConvoAutoSchema
from convo.http.sse import MEDIA_TYPE, frame
from convo.http.strict_json import StrictJSONParser
from convo.models import Session
from convo.rest.browsable import BrowsableRenderer
from convo.rest.serializer_fields import StrictSerializer
from convo.rest.view import ConvoView


class EventStreamRenderer(renderers.BaseRenderer):
    """Lets clients accept event streams; a response that is no stream, such as an error, is one event."""

    media_type = MEDIA_TYPE
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
        self.params = QueryParams(request, *self.allowed_params.get(self.action or "", ()))

    def get_serializer_class(self) -> type[StrictSerializer]:
        return self.serializer_classes.get(self.action or "", StrictSerializer)

    def finalize_response(
        self, request: Request, response: Response, *args: object, **kwargs: object
    ) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return super().finalize_response(request, response, *args, **kwargs)

    def validated_body(self, **options: object) -> dict[str, Any]:
        """Return the body of the request, validated by the serializer of the action."""
        self.sent_data = self.request.data
        serializer = self.get_serializer(data=self.sent_data, **options)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def get_session(self, id: str, user: str | None = None) -> Session:
        """Return the caller's session; an unknown id and somebody else's session raise the same 404."""
        try:
            session_id = UUID(id)
        except ValueError:
            session_id = UUID(int=0)
        person_ref = requested_person(self.request, user)
        sessions = Session.objects.owned_by(self.request.user, person_ref).select_related("person")
        session = sessions.filter(pk=session_id).first()
        if session is None:
            raise NotFound("There is no such session.", param="session")
        return session


class QueryParams:
    """The query parameters of a request; an unknown one is an error."""

    def __init__(self, request: Request, *names: str) -> None:
        self.raw = request.query_params
        allowed = {*names, "user", "format"}
        for name in self.raw:
            if name not in allowed:
                raise UnknownParameter(
                    f"Unknown parameter {name!r}. The parameters here are: {', '.join(sorted(allowed))}.",
                    param=name,
                )
            if not self.raw[name].isprintable() and name != "query":
                raise InvalidRequest(f"`{name}` contains characters that cannot be printed.", param=name)
            if "\0" in self.raw[name]:
                raise InvalidRequest(f"`{name}` contains a NUL character.", param=name)

    def text(self, name: str) -> str:
        return self.raw.get(name, "")

    def integer(self, name: str, *, max_value: int = 10**15, min_value: int = 0) -> int | None:
        value = self.raw.get(name)
        if value is None:
            return None
        number = parse_whole_number(value)
        if number is None or not min_value <= number <= max_value:
            raise InvalidRequest(
                f"`{name}` must be a whole number from {min_value} to {max_value}.", param=name
            )
        return number

    def page_size(self) -> int:
        return self.integer("page_size", min_value=1, max_value=100) or 20

    def choice(self, name: str, *options: str) -> str:
        """Return the option that the parameter names, or the first one without the parameter."""
        value = self.raw.get(name, options[0])
        if value not in options:
            raise InvalidRequest(f"`{name}` must be one of: {', '.join(filter(None, options))}.", param=name)
        return value

    def reject_both(self, first: str, second: str) -> None:
        """Raise if both parameters are given."""
        if first in self.raw and second in self.raw:
            raise InvalidRequest(f"Give `{first}` or `{second}`, not both.", param=second)

    def date_time(self, name: str) -> datetime | None:
        value = self.raw.get(name)
        if value is None:
            return None
        try:
            parsed = parse_datetime(value)
            if parsed and parsed.tzinfo:
                return parsed.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise InvalidRequest(f"`{name}` must be a date and time such as 2026-11-20T13:00:00Z.", param=name)
