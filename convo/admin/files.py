"""Admin of attachments that people uploaded, and of their feedback on replies."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from convo.admin.read_only import ReadOnlyAdmin, can_read_content, log_reading
from convo.models import Attachment, Feedback


@admin.register(Attachment)
class AttachmentAdmin(ReadOnlyAdmin[Attachment]):
    """Attachments as uploaded. No page displays them; staff who may read content can download one."""

    list_display = ("id", "person", "mime", "size", "created_at")
    list_select_related = ("person__owner",)
    ordering = ("-id",)
    search_names = ("person__ref",)
    search_help_text = "The complete name of an end user."
    extra_lookups = ("person__exact",)
    deferred_fields = ("data",)
    # The hash would tell anybody with a copy of a file that this person uploaded it.
    content_fields = ("sha256",)
    fields = ("person", "mime", "size", "sha256", "created_at", "download_link")
    readonly_fields = ("download_link",)

    @admin.display(description="file")
    def download_link(self, attachment: Attachment) -> SafeString:
        url = reverse("admin:convo_attachment_file", args=[attachment.pk])
        return format_html('<a href="{}" download>Download</a> (needs the permission view content)', url)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.download)
        return [path("<int:pk>/file/", view, name="convo_attachment_file"), *super().get_urls()]

    def download(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Serve the file as a download that the browser never opens, whatever its type."""
        if not (self.has_view_permission(request) and can_read_content(request)):
            raise PermissionDenied
        attachment = get_object_or_404(Attachment, pk=pk)
        log_reading(request, Attachment, str(attachment), attachment.pk)
        return HttpResponse(
            bytes(attachment.data),
            content_type="application/octet-stream",
            headers={
                "Content-Disposition": f'attachment; filename="attachment-{attachment.pk}"',
                "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "sandbox; default-src 'none'",
            },
        )


@admin.register(Feedback)
class FeedbackAdmin(ReadOnlyAdmin[Feedback]):
    """Thumbs up and down for replies, with the notes that people left."""

    list_display = ("id", "turn", "agent", "value", "note", "created_at")
    list_filter = ("value", "created_at")
    list_select_related = ("turn",)
    ordering = ("-created_at",)
    search_ids = ("turn__key", "turn__session")
    search_help_text = "The complete id of a turn or a session."
    content_fields = ("note",)
    fields = ("turn", "agent", "value", "note", "created_at")
    readonly_fields = ("agent",)

    @admin.display(description="agent")
    def agent(self, feedback: Feedback) -> str:
        return feedback.turn.agent
