"""Admin actions that change rows only after a page has said what will happen and staff have confirmed it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from convo.admin.read_only import Row
from convo.errors import ConvoError

# Nobody reads through a longer list of rows before confirming.
MAX_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class RowAction(Generic[Row]):
    """Something that staff do to rows: its name, its description, and the permission that it needs.

    `apply` returns whether there was anything to do for a row. A row's own page offers the button in these
    `states`; an empty sequence means all states.
    """

    name: str
    label: str
    description: str
    done_label: str
    permission: str
    apply: Callable[[Row], bool]
    is_destructive: bool = False
    states: Sequence[str] = ()


def admin_action(
    row_action: RowAction[Row],
) -> Callable[[ModelAdmin, HttpRequest, QuerySet[Row]], HttpResponseBase | None]:
    """Return a function for `ModelAdmin.actions`, which asks for confirmation first."""

    def action(
        model_admin: ModelAdmin, request: HttpRequest, queryset: QuerySet[Row]
    ) -> HttpResponseBase | None:
        rows = selected_rows(request, queryset)
        if not rows:
            return None
        if request.POST.get("post") != "yes":
            context = {"deed": row_action, "title": f"{row_action.label}?"}
            return confirmation_page(model_admin, request, rows, row_action.name, context)
        _apply(model_admin, request, row_action, rows)
        return None

    action.__name__ = row_action.name
    action.short_description = row_action.label  # type: ignore[attr-defined]
    action.allowed_permissions = [row_action.permission]  # type: ignore[attr-defined]
    return action


def selected_rows(request: HttpRequest, queryset: QuerySet[Row]) -> list[Row]:
    """Return the selected rows, or an error message and no rows if there are too many to review."""
    rows = list(queryset[: MAX_ROWS + 1])
    if len(rows) > MAX_ROWS:
        messages.error(request, f"Select at most {MAX_ROWS} rows at a time.")
        return []
    return rows


def confirmation_page(
    model_admin: ModelAdmin,
    request: HttpRequest,
    rows: Sequence[Model],
    action: str,
    extra_context: Mapping[str, object],
    *,
    template: str = "admin/convo/confirm.html",
) -> HttpResponseBase:
    """Render the confirmation page, whose form posts to the same action with `post=yes`."""
    context = {"rows": rows, "action": action, "checkbox": ACTION_CHECKBOX_NAME, **extra_context}
    return render_page(model_admin, request, template, context)


def render_page(
    model_admin: ModelAdmin, request: HttpRequest, template: str, context: Mapping[str, object]
) -> TemplateResponse:
    """Render a page that looks like the other pages of this model."""
    frame = {"opts": model_admin.opts, "media": model_admin.media}
    site_context = model_admin.admin_site.each_context(request)
    return TemplateResponse(request, template, {**site_context, **frame, **context})


def _apply(
    model_admin: ModelAdmin, request: HttpRequest, row_action: RowAction[Row], rows: Sequence[Row]
) -> None:
    count = 0
    for row in rows:
        try:
            if row_action.apply(row):
                count += 1
                model_admin.log_change(request, row, row_action.done_label)
        except ConvoError as error:
            messages.error(request, f"{row}: {error.message}")
    messages.success(request, f"{row_action.done_label}: {count} of {len(rows)}.")
