"""Admin of memories, where staff review, merge and forget them."""

from collections.abc import Callable, Sequence

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from convo import memory
from convo.admin.confirmation import confirmation_page, selected_rows
from convo.admin.prompt_view import message_url
from convo.admin.read_only import ReadOnlyAdmin, can_read_content, describe_size, permission_check
from convo.errors import ConvoError
from convo.models import UserMemory

Status = UserMemory.Status


@admin.register(UserMemory)
class UserMemoryAdmin(ReadOnlyAdmin[UserMemory]):
    """Memories about people. Staff review them; deleting one forgets it."""

    list_display = ("id", "person", "kind", "text", "status", "pinned", "source", "valid_from", "valid_to")
    list_filter = ("status", "source", "pinned")
    list_select_related = ("person__owner",)
    ordering = ("-id",)
    search_ids = ("key",)
    search_names = ("person__ref",)
    search_help_text = "The complete id of a memory, or the complete name of an end user."
    extra_lookups = ("person__exact",)
    content_fields = ("text", "kind", "slot")
    fields = (
        *("person", "text", "kind", "slot", "status", "pinned", "confidence", "source"),
        *("valid_from", "valid_to", "superseded_by", "key"),
    )
    actions = ["approve", "reject", "merge"]

    has_review_permission = permission_check("convo.change_usermemory")
    has_erase_permission = permission_check("convo.erase_usermemory")

    def has_delete_permission(self, request: HttpRequest, obj: UserMemory | None = None) -> bool:
        return bool(request.user.has_perm("convo.delete_usermemory"))

    def get_actions(self, request: HttpRequest) -> dict[str, tuple[Callable[..., str], str, str] | None]:
        # Forgetting many at once needs a permission of its own, just as API keys need a scope for it.
        actions = super().get_actions(request)
        if not self.has_erase_permission(request):
            actions.pop("delete_selected", None)
        return actions

    def get_deleted_objects(
        self, objs: Sequence[UserMemory] | QuerySet[UserMemory], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        # Convo forgets memories by its own rules, so nothing is deleted by Django's cascade.
        rows = [str(row) for row in objs]
        return rows, {str(self.opts.verbose_name_plural): len(rows)}, set(), []

    @admin.action(description="Approve: use these memories", permissions=["review"])
    def approve(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> None:
        rows = self._rows_to_review(request, queryset)
        for row in rows:
            memory.change(row, approve=True)
            self.log_change(request, row, "approved")
        self.message_user(request, f"Approved: {len(rows)}.")

    @admin.action(description="Reject: forget those that wait for review", permissions=["review"])
    def reject(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> None:
        rows = self._rows_to_review(request, queryset)
        for row in rows:
            memory.forget(row)
            self.log_change(request, row, "rejected and forgotten")
        self.message_user(request, f"Rejected: {len(rows)}.")

    @admin.action(description="Merge: keep one in place of the others", permissions=["review"])
    def merge(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> HttpResponseBase | None:
        rows = selected_rows(request, queryset.select_related("person__owner").order_by("pk"))
        survivor = next((row for row in rows if str(row.pk) == request.POST.get("survivor")), None)
        if len(rows) < 2:
            messages.error(request, "Select at least two memories.")
            return None
        if request.POST.get("post") != "yes" or survivor is None:
            can_read = can_read_content(request)
            texts = [(row, row.text if can_read else describe_size(row.text)) for row in rows]
            extra_context = {"texts": texts, "title": "Which one replaces the others?"}
            if can_read:
                self.log_list_reading(request, len(rows))
            return confirmation_page(
                self, request, rows, "merge", extra_context, template="admin/convo/merge.html"
            )
        try:
            memory.merge(survivor, [row for row in rows if row is not survivor])
        except ConvoError as error:
            messages.error(request, error.message)
            return None
        for row in rows:
            self.log_change(request, row, "kept" if row is survivor else f"merged into {survivor}")
        messages.success(request, f"Merged {len(rows)} memories into {survivor}.")
        return None

    def delete_model(self, request: HttpRequest, obj: UserMemory) -> None:
        memory.forget(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> None:
        for row in queryset.select_related("person"):
            memory.forget(row)

    def page_context(self, request: HttpRequest, row: UserMemory) -> dict[str, object]:
        show = str if can_read_content(request) else describe_size
        sources = [(step.message, step.message.content) for step in memory.evidence(row)]
        return {
            "steps": [(step, show(step.text)) for step in memory.versions(row)],
            "rests_on": [
                (message, message_url(message.session_id, message.position), show(text))
                for message, text in sources
            ],
        }

    def _rows_to_review(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> list[UserMemory]:
        return selected_rows(
            request, queryset.filter(status=Status.NEEDS_REVIEW).select_related("person__owner")
        )
