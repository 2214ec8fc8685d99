"""What staff do to rows, each time after a page that says what will happen and asks whether they are sure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from convo.errors import ConvoError

# So many rows are read through before one says yes to them.
MOST_AT_ONCE = 100

Action = Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponseBase | None]


@dataclass(frozen=True, kw_only=True)
class Deed:
    """Something that is done to rows: what it is called, what it means, and who may do it.

    `do` says whether there was anything to do about a row. `states` are those in which it is offered on the
    row's own page; none are all.
    """

    name: str
    label: str
    means: str
    done: str
    permission: str
    do: Callable[[Any], bool]
    grave: bool = False
    states: Sequence[str] = ()


def action_of(deed: Deed) -> Action:
    """The deed as an action of a list: it asks first, and does it once the answer is yes."""

    def action(page: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase | None:
        chosen = few_of(request, queryset)
        if not chosen:
            return None
        if request.POST.get("post") != "yes":
            return asked(page, request, chosen, deed.name, {"deed": deed, "title": f"{deed.label}?"})
        _do(page, request, deed, chosen)
        return None

    action.__name__ = deed.name
    action.short_description = deed.label  # type: ignore[attr-defined]
    action.allowed_permissions = [deed.permission]  # type: ignore[attr-defined]
    return action


def few_of(request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
    """The rows that were chosen; none where those are too many to look at."""
    chosen = list(queryset[: MOST_AT_ONCE + 1])
    if len(chosen) > MOST_AT_ONCE:
        messages.error(request, f"Choose {MOST_AT_ONCE} at most: more than that nobody looks at.")
        return []
    return chosen


def asked(
    page: Any,
    request: HttpRequest,
    chosen: Sequence[Any],
    action: str,
    more: dict[str, Any],
    *,
    template: str = "admin/convo/confirm.html",
) -> HttpResponseBase:
    """The page that asks whether one is sure; a yes comes back to the same action, with `post`."""
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "media": page.media,
        "rows": chosen,
        "action": action,
        "checkbox": ACTION_CHECKBOX_NAME,
        **more,
    }
    return TemplateResponse(request, template, context)


def _do(page: Any, request: HttpRequest, deed: Deed, chosen: Sequence[Any]) -> None:
    count = 0
    for row in chosen:
        try:
            if deed.do(row):
                count += 1
                page.log_change(request, row, deed.done)
        except ConvoError as error:
            messages.error(request, f"{row}: {error.message}")
    messages.success(request, f"{deed.done}: {count} of {len(chosen)}.")
