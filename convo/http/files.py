"""The images and files of messages, each under an address of its own: for their owner alone."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import reverse
from django.utils.http import content_disposition_header
from drf_spectacular.utils import extend_schema
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from convo import history
from convo.errors import NotFound
from convo.history import IMAGE_TYPES, TEXT
from convo.http import errors
from convo.http.auth import AUTHENTICATION, HasScope, named_person
from convo.models import Attached, Message, Session

# What came from somewhere never runs here, nor is it taken for anything that it is not said to be.
_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {**{mime: mime for mime in IMAGE_TYPES}, TEXT: "text/plain; charset=utf-8"}
_UNKNOWN = "application/octet-stream"


def shown_files(message: Message) -> list[dict[str, Any]]:
    """The images and files of a message, as pages and JSON show them; what is kept nowhere has no address."""
    return [
        {
            "name": file.name,
            "mime": file.mime,
            "size": file.size,
            "url": reverse("file", args=[file.attachment]) if file.attachment else None,
            "is_image": file.is_image,
            "width": file.width or None,
            "height": file.height or None,
        }
        for file in history.files_of(message)
    ]


class FileView(APIView):
    """One image or file."""

    authentication_classes = AUTHENTICATION
    permission_classes = [HasScope]

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        # Browsers ask for images; what else is answered here are errors.
        return JSONRenderer(), JSONRenderer.media_type

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Any]:
        return errors.handle

    @extend_schema(exclude=True)
    def get(self, request: Request, id: int) -> HttpResponse:
        """It, as it came. An image may be shown in place; everything else is there to be saved."""
        use = _uses(request).filter(attachment=id).select_related("attachment", "message").last()
        if use is None:
            raise NotFound("There is no such file.")
        kept = use.attachment
        names = [file.name for file in history.files_of(use.message) if file.attachment == kept.pk]
        saved = content_disposition_header(kept.mime not in IMAGE_TYPES, names[0] if names else "file")
        response = HttpResponse(bytes(kept.data), content_type=_TYPES.get(kept.mime, _UNKNOWN))
        for header, value in {**_HEADERS, "Content-Disposition": saved or "inline"}.items():
            response[header] = value
        return response


def _uses(request: Request) -> QuerySet[Attached]:
    """The caller's messages that show something."""
    owner: Any = request.user
    mine = Attached.objects.filter(message__session__owner=owner, message__erased_at=None)
    mine = mine.exclude(message__session__state=Session.State.DELETED)
    person = named_person(request)
    mine = mine if person is None else mine.filter(message__session__person__ref=person)
    return mine.order_by("pk")
