"""What these pages have in common: they show and change nothing, and what people said is for few to read."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from convo.admin.lists import ShortCount

VIEW_CONTENT = "convo.view_content"
# A word more of it and a list is no list.
LONGEST_IN_A_LIST = 120
LONGEST_ON_A_PAGE = 20_000


def may_read(request: HttpRequest) -> bool:
    """May this member of the staff read what people said?"""
    return bool(request.user.has_perm(VIEW_CONTENT))


def size_of(value: Any) -> str:
    """How much there is of a text, for those who may not read it."""
    words = len(_text(value).split())
    return f"{words} word{'s' * (words != 1)}, hidden: needs the permission view content"


def note_reading(request: HttpRequest, model: type[Model], what: str, pk: Any = None) -> None:
    """Write down who read what people said, before it is shown."""
    LogEntry.objects.create(
        user_id=request.user.pk,  # type: ignore[misc]  # only staff comes here
        content_type=ContentType.objects.get_for_model(model),
        object_id=pk,
        object_repr=what[:200],
        action_flag=CHANGE,
        change_message="Read what people said.",
    )


class ReadOnly(admin.ModelAdmin):
    """Look, don't touch: these rows are written by turns, by background work and by the people themselves."""

    show_full_result_count = False
    # Facets would count a whole table for each filter.
    show_facets = admin.ShowFacets.NEVER
    paginator = ShortCount
    list_per_page = 50
    list_max_show_all = 0
    # The fields that hold what people said.
    said: Sequence[str] = ()
    # What a list's address may ask for, beside its filters.
    lookups: Sequence[str] = ()
    # Large columns, which no list shows.
    deferred: Sequence[str] = ()

    class Media:
        css = {"all": ["convo/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Django would delete the row from under the rules that the transcript keeps.
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*self.deferred)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [self._as_shown(request, name, LONGEST_IN_A_LIST) for name in self.list_display]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [
            (
                title,
                {
                    **options,
                    "fields": [
                        self._as_shown(request, name, LONGEST_ON_A_PAGE) for name in options["fields"]
                    ],
                },
            )
            for title, options in super().get_fieldsets(request, obj)
        ]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """May a list be narrowed by this? By a text it may not: whoever can't read it could guess it."""
        return lookup in self.lookups or any(lookup in _asked_by(one) for one in self.list_filter)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        # Names only, whole, and each by an index.
        term = search_term.strip()
        return queryset.filter(self.found_by(term)) if term else queryset, False

    def found_by(self, term: str) -> Q:
        """The rows that a search means; texts are not searched."""
        return Q(pk=None)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        response = super().changelist_view(request, extra_context)
        listed = getattr(response, "context_data", None) or {}
        rows = len(listed["cl"].result_list) if "cl" in listed else 0
        if rows and set(self.said).intersection(self.list_display) and may_read(request):
            self.note_list(request, rows)
        return response

    def note_list(self, request: HttpRequest, rows: int) -> None:
        """Write down that so many rows are shown with what people said."""
        note_reading(request, self.model, f"a list of {rows} {self.opts.verbose_name_plural}")

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> Any:
        if obj is not None and self.said and may_read(request):
            note_reading(request, self.model, str(obj), obj.pk)
        context |= self.beside(request, obj) if obj is not None else {}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the page of a row shows beside its fields."""
        return {}

    def _as_shown(self, request: HttpRequest, name: Any, longest: int) -> Any:
        return _shown(name, may_read(request), longest) if name in self.said else name


def _shown(name: str, reads: bool, longest: int) -> Callable[[Any], Any]:
    """The column or field of this name, for a reader who may or may not read it."""

    @admin.display(description=name.replace("_", " "))
    def shown(row: Any) -> Any:
        value = getattr(row, name)
        if value in (None, "", [], {}):
            return "-"
        if not reads:
            return size_of(value)
        text = _text(value)
        short = text if len(text) <= longest else text[:longest] + "…"
        return short if longest == LONGEST_IN_A_LIST else format_html('<div class="said">{}</div>', short)

    shown.__name__ = name
    return shown


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)


def _asked_by(one: Any) -> set[str]:
    """What a filter of a list puts into its address."""
    if isinstance(one, str | tuple | list):
        name = one if isinstance(one, str) else one[0]
        return {f"{name}__{how}" for how in ("exact", "isnull", "gte", "lt")}
    return {one.parameter_name}
