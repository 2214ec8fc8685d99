"""What is known about people: reviewed, merged and forgotten here."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from convo import memory
from convo.admin.confirming import asked, few_of
from convo.admin.lists import uuid_in
from convo.admin.reading import ReadOnly, may_read, size_of
from convo.admin.seen import place_of
from convo.errors import ConvoError
from convo.models import UserMemory

Status = UserMemory.Status


@admin.register(UserMemory)
class UserMemoryAdmin(ReadOnly):
    """Memories are reviewed here; to delete one is to forget it."""

    list_display = ("id", "person", "kind", "text", "status", "pinned", "source", "valid_from", "valid_to")
    list_filter = ("status", "source", "pinned")
    list_select_related = ("person__owner",)
    ordering = ("-id",)
    search_fields = ("key",)
    search_help_text = "The id of a memory, whole, or the name of an end user."
    lookups = ("person__exact",)
    said = ("text", "kind", "slot")
    fields = (
        *("person", "text", "kind", "slot", "status", "pinned", "confidence", "source"),
        *("valid_from", "valid_to", "superseded_by", "key"),
    )
    actions = ["approve", "reject", "merge"]

    def found_by(self, term: str) -> Q:
        key = uuid_in(term)
        return Q(key=key) if key else Q(person__ref=term)

    def has_review_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("convo.change_usermemory"))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("convo.delete_usermemory"))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], list[str]]:
        # Nothing goes with them by Django's rules: they are forgotten by Convo's.
        rows = [str(row) for row in objs]
        return rows, {self.opts.verbose_name_plural: len(rows)}, set(), []

    @admin.action(description="Approve: let these be used", permissions=["review"])
    def approve(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> None:
        waiting = self._waiting(request, queryset)
        for row in waiting:
            memory.change(row, approve=True)
            self.log_change(request, row, "approved")
        self.message_user(request, f"Approved: {len(waiting)}.")

    @admin.action(description="Reject: forget what waits for review", permissions=["review"])
    def reject(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> None:
        waiting = self._waiting(request, queryset)
        for row in waiting:
            memory.forget(row)
            self.log_change(request, row, "rejected and forgotten")
        self.message_user(request, f"Rejected: {len(waiting)}.")

    @admin.action(description="Merge: let one stand for all of these", permissions=["review"])
    def merge(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> HttpResponseBase | None:
        chosen = few_of(request, queryset.select_related("person__owner").order_by("pk"))
        kept = next((row for row in chosen if str(row.pk) == request.POST.get("kept")), None)
        if len(chosen) < 2:
            messages.error(request, "Choose two or more.")
            return None
        if request.POST.get("post") != "yes" or kept is None:
            reads = may_read(request)
            texts = [(row, row.text if reads else size_of(row.text)) for row in chosen]
            more = {"texts": texts, "title": "Which of them stands for all?"}
            if reads:
                self.note_list(request, len(chosen))
            return asked(self, request, chosen, "merge", more, template="admin/convo/merge.html")
        try:
            memory.merge(kept, [row for row in chosen if row is not kept])
        except ConvoError as error:
            messages.error(request, error.message)
            return None
        for row in chosen:
            self.log_change(request, row, "kept" if row is kept else f"merged into {kept}")
        messages.success(request, f"{kept} stands for {len(chosen)}.")
        return None

    def delete_model(self, request: HttpRequest, obj: UserMemory) -> None:
        memory.forget(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> None:
        for row in queryset.select_related("person"):
            memory.forget(row)

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        reads = may_read(request)
        said = [(step.message, step.message.content) for step in memory.evidence(row)]
        return {
            "steps": [(step, step.text if reads else size_of(step.text)) for step in memory.history(row)],
            "rests_on": [
                (message, place_of(message.session_id, message.position), text if reads else size_of(text))
                for message, text in said
            ],
        }

    def _waiting(self, request: HttpRequest, queryset: QuerySet[UserMemory]) -> list[UserMemory]:
        return few_of(request, queryset.filter(status=Status.NEEDS_REVIEW).select_related("person__owner"))
