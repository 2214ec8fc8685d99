"""The images and files of messages, each at its own URL and for its owner only."""

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

from convo.errors import NotFound
from convo.history.files import IMAGE_TYPES, TEXT_TYPE, files_of
from convo.http import errors
from convo.http.auth import AUTHENTICATION, HasScope, requested_person
from convo.models import AttachmentUse, Message, Session

# An uploaded file must never run as a page of this site, nor be taken for another type than its own.
_SECURITY_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_CONTENT_TYPES = {**{mime: mime for mime in IMAGE_TYPES}, TEXT_TYPE: "text/plain; charset=utf-8"}
_DEFAULT_CONTENT_TYPE = "application/octet-stream"


def files_json(message: Message) -> list[dict[str, Any]]:
    """Return the images and files of a message for pages and JSON. A file that isn't stored has no URL."""
    return [
        {
            "name": file.name,
            "mime": file.mime,
            "size": file.size,
            "url": reverse("file", args=[file.attachment_id]) if file.attachment_id else None,
            "is_image": file.is_image,
            "width": file.width or None,
            "height": file.height or None,
        }
        for file in files_of(message.item)
    ]


class FileView(APIView):
    """An image or a file of a message."""

    authentication_classes = AUTHENTICATION
    permission_classes = [HasScope]

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        # Browsers accept only images here, and errors are sent as JSON all the same.
        return JSONRenderer(), JSONRenderer.media_type

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Any]:
        return errors.handle

    @extend_schema(exclude=True)
    def get(self, request: Request, id: int) -> HttpResponse:
        """Return the file as it was uploaded. Browsers may show images; they download everything else."""
        use = _visible_uses(request).filter(attachment=id).select_related("attachment", "message").last()
        if use is None:
            raise NotFound("There is no such file.")
        attachment = use.attachment
        names = [file.name for file in files_of(use.message.item) if file.attachment_id == attachment.pk]
        disposition = content_disposition_header(
            attachment.mime not in IMAGE_TYPES, names[0] if names else "file"
        )
        content_type = _CONTENT_TYPES.get(attachment.mime, _DEFAULT_CONTENT_TYPE)
        response = HttpResponse(bytes(attachment.data), content_type=content_type)
        for header, value in {**_SECURITY_HEADERS, "Content-Disposition": disposition or "inline"}.items():
            response[header] = value
        return response


def _visible_uses(request: Request) -> QuerySet[AttachmentUse]:
    owner: Any = request.user
    uses = AttachmentUse.objects.filter(message__session__owner=owner, message__erased_at=None)
    uses = uses.exclude(message__session__state=Session.State.DELETED)
    person = requested_person(request)
    uses = uses if person is None else uses.filter(message__session__person__ref=person)
    return uses.order_by("pk")
