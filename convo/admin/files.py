"""Images and files that people handed over, and what people thought of replies."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from convo.admin.lists import uuid_in
from convo.admin.reading import ReadOnly, may_read, note_reading
from convo.models import Attachment, Feedback


@admin.register(Attachment)
class AttachmentAdmin(ReadOnly):
    """Files as they came. None is shown here; who may read what people said may fetch one."""

    list_display = ("id", "person", "mime", "size", "created_at")
    list_select_related = ("person__owner",)
    ordering = ("-id",)
    search_fields = ("person",)
    search_help_text = "The name of an end user, whole."
    lookups = ("person__exact",)
    deferred = ("data",)
    # Who knows a file could tell by its hash whether this is the one.
    said = ("sha256",)
    fields = ("person", "mime", "size", "sha256", "created_at", "file")
    readonly_fields = ("file",)

    def found_by(self, term: str) -> Q:
        return Q(person__ref=term)

    @admin.display(description="file")
    def file(self, attachment: Attachment) -> SafeString:
        at = reverse("admin:convo_attachment_file", args=[attachment.pk])
        return format_html('<a href="{}" download>Fetch it</a> (needs the permission view content)', at)

    def get_urls(self) -> list[Any]:
        fetch = self.admin_site.admin_view(self.fetch)
        return [path("<int:pk>/file/", fetch, name="convo_attachment_file"), *super().get_urls()]

    def fetch(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The file, to be saved and never opened in the browser, whatever it is."""
        if not (self.has_view_permission(request) and may_read(request)):
            raise PermissionDenied
        found = Attachment.objects.filter(pk=pk).first()
        if found is None:
            raise Http404
        note_reading(request, Attachment, str(found), found.pk)
        response = HttpResponse(bytes(found.data), content_type="application/octet-stream")
        response["Content-Disposition"] = f'attachment; filename="attachment-{found.pk}"'
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return response


@admin.register(Feedback)
class FeedbackAdmin(ReadOnly):
    """Thumbs, and why."""

    list_display = ("id", "turn", "agent", "value", "note", "created_at")
    list_filter = ("value", "created_at")
    list_select_related = ("turn",)
    ordering = ("-created_at",)
    search_fields = ("turn",)
    search_help_text = "The id of a turn or of a session, whole."
    said = ("note",)
    fields = ("turn", "agent", "value", "note", "created_at")
    readonly_fields = ("agent",)

    def found_by(self, term: str) -> Q:
        id = uuid_in(term)
        return Q(turn__key=id) | Q(turn__session=id) if id else Q(pk=None)

    @admin.display(description="agent")
    def agent(self, feedback: Feedback) -> str:
        return feedback.turn.agent
