"""What all REST views share: who may call, what is read and sent, and how errors look."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime
from rest_framework import renderers, viewsets
from rest_framework.metadata import SimpleMetadata
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request

from convo.errors import InvalidRequest, NotFound, UnknownParameter
from convo.http.auth import named_person
from convo.http.parsing import JSONParser
from convo.http.rest.browsable import Page
from convo.http.rest.schema import Described
from convo.http.rest.values import Strict
from convo.http.rest.view import ConvoView
from convo.http.sse import MEDIA_TYPE, frame
from convo.models import Session

_WHOLE = re.compile(r"[0-9]{1,15}")


class EventStreamRenderer(renderers.BaseRenderer):
    """Lets clients ask for events; what is no stream, such as an error, comes as one event."""

    media_type = MEDIA_TYPE
    format = "events"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        # An answer without content must not have any: the connection's next answer would begin in it.
        if data is None:
            return b""
        status = renderer_context["response"].status_code if renderer_context else 200
        return frame(0, "error" if status >= 400 else "message", data)


class Methods(SimpleMetadata):
    """What OPTIONS tells of an address, without a look at what is there."""

    def determine_actions(self, request: Request, view: Any) -> dict[str, Any]:
        return {}


class ConvoViewSet(ConvoView, viewsets.GenericViewSet[Any]):
    """A view set of Convo: needs no setting of the project that it is part of."""

    parser_classes = [JSONParser, FormParser, MultiPartParser]
    metadata_class = Methods
    renderer_classes = [renderers.JSONRenderer, EventStreamRenderer, Page]
    schema = Described()
    pagination_class = None
    filter_backends = []
    # What an action takes in its body: nothing, where it is not named here.
    serializers: Mapping[str, type[Strict]] = {}
    # What an action takes in the query string, besides `user` and `format`.
    parameters: Mapping[str, Sequence[str]] = {}
    # Other addresses about the thing that `pk` names, by what they are called.
    related: Mapping[str, str] = {}
    # What this call was given, as it came.
    sent: Any = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.asked = Parameters(request, *self.parameters.get(self.action or "", ()))

    def get_serializer_class(self) -> type[Strict]:
        return self.serializers.get(self.action or "", Strict)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response.headers.setdefault("Cache-Control", "no-store")
        return super().finalize_response(request, response, *args, **kwargs)

    def body(self, **options: Any) -> dict[str, Any]:
        """What this call was given, checked by its serializer."""
        self.sent = self.request.data
        serializer = self.get_serializer(data=self.sent, **options)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def session(self, id: str, user: str | None = None) -> Session:
        """The caller's session; an unknown one and somebody else's are the same 404."""
        try:
            key = UUID(id)
        except ValueError:
            key = UUID(int=0)
        named = named_person(self.request, user)
        found = Session.objects.of(self.request.user, named).select_related("person").filter(pk=key).first()
        if found is None:
            raise NotFound("There is no such session.", param="session")
        return found


class Parameters:
    """The query string of a request; a name that the call doesn't know is an error."""

    def __init__(self, request: Request, *known: str) -> None:
        self.given = request.query_params
        allowed = {*known, "user", "format"}
        for name in self.given:
            if name not in allowed:
                raise UnknownParameter(
                    f"There is no parameter {name!r} here; there are: {', '.join(sorted(allowed))}.",
                    param=name,
                )
            if not self.given[name].isprintable() and name != "query":
                raise InvalidRequest(f"`{name}` holds characters that cannot be printed.", param=name)
            if "\0" in self.given[name]:
                raise InvalidRequest(f"`{name}` holds a NUL.", param=name)

    def text(self, name: str) -> str:
        return self.given.get(name, "")

    def whole(self, name: str, *, most: int = 10**15, least: int = 0) -> int | None:
        value = self.given.get(name)
        if value is None:
            return None
        if not _WHOLE.fullmatch(value) or not least <= int(value) <= most:
            raise InvalidRequest(f"`{name}` must be a whole number from {least} to {most}.", param=name)
        return int(value)

    def page_size(self) -> int:
        return self.whole("page_size", least=1, most=100) or 20

    def choice(self, name: str, *options: str) -> str:
        """The option chosen; the first one when none is."""
        value = self.given.get(name, options[0])
        if value not in options:
            raise InvalidRequest(f"`{name}` is one of: {', '.join(filter(None, options))}.", param=name)
        return value

    def either(self, one: str, other: str) -> None:
        """Refuse the two together."""
        if one in self.given and other in self.given:
            raise InvalidRequest(f"Give `{one}` or `{other}`, not both.", param=other)

    def moment(self, name: str) -> datetime | None:
        value = self.given.get(name)
        if value is None:
            return None
        try:
            found = parse_datetime(value)
            if found and found.tzinfo:
                return found.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise InvalidRequest(f"`{name}` is a moment such as 2026-11-20T13:00:00Z.", param=name)
