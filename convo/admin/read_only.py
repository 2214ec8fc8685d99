"""The base class of Convo's admin: read-only, and hiding what people wrote from staff without permission."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from convo.admin.lists import CappedPaginator, parse_uuid

VIEW_CONTENT = "convo.view_content"
# Longer texts would make a list unreadable.
MAX_LIST_LENGTH = 120
MAX_PAGE_LENGTH = 20_000

Row = TypeVar("Row", bound=Model)
Column = str | Callable[[Model], str | bool]


def can_read_content(request: HttpRequest) -> bool:
    return bool(request.user.has_perm(VIEW_CONTENT))


def permission_check(permission: str) -> Callable[[object, HttpRequest], bool]:
    """Return a `has_…_permission` method for an action that needs this permission."""
    return lambda _, request: bool(request.user.has_perm(permission))


def is_valid_value(field: Any, text: str) -> bool:
    """Return whether the field can hold this value; a number may have more digits than its column takes."""
    while field.remote_field:
        field = field.target_field
    try:
        field.run_validators(field.to_python(text))
    except ValidationError:
        return False
    return True


def describe_size(value: object) -> str:
    """Return a note on the length of a value, for staff who may not read it."""
    words = len(_as_text(value).split())
    return f"{words} word{'s' * (words != 1)}, hidden: needs the permission view content"


def log_reading(request: HttpRequest, model: type[Model], object_repr: str, pk: object = None) -> None:
    """Log, before showing it, that a staff member reads what people wrote."""
    LogEntry.objects.create(
        user_id=request.user.pk,  # type: ignore[misc]  # only staff comes here
        content_type=ContentType.objects.get_for_model(model),
        object_id=None if pk is None else str(pk),
        object_repr=object_repr[:200],
        action_flag=CHANGE,
        change_message="Read what people said.",
    )


class ReadOnlyAdmin(admin.ModelAdmin, Generic[Row]):
    """Read-only admin: turns, background work and the people themselves write these rows."""

    show_full_result_count = False
    # Facets would count a whole table for each filter.
    show_facets = admin.ShowFacets.NEVER
    paginator = CappedPaginator
    list_per_page = 50
    list_max_show_all = 0
    # The fields that contain what people wrote.
    content_fields: Sequence[str] = ()
    # Lookups that the address of a list may contain in addition to those of its filters.
    extra_lookups: Sequence[str] = ()
    # Large columns, which no list shows.
    deferred_fields: Sequence[str] = ()
    # A search compares its term with these ids or, if the term is no id, with these names.
    search_ids: Sequence[str] = ()
    search_names: Sequence[str] = ()

    class Media:
        css = {"all": ["convo/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        # Deletion by Django would bypass the rules that keep transcripts consistent.
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Row]:
        return super().get_queryset(request).defer(*self.deferred_fields)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Row | None:
        return (
            super().get_object(request, object_id, from_field)
            if is_valid_value(self.opts.pk, object_id)
            else None
        )

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Row], *options: Any
    ) -> HttpResponse | None:
        if not all(is_valid_value(self.opts.pk, id) for id in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            messages.error(request, "Select rows of this list.")
            return None
        return super().response_action(request, queryset, *options)

    def get_list_display(self, request: HttpRequest) -> list[Column]:
        return self._columns(request, self.list_display, MAX_LIST_LENGTH)

    def get_fieldsets(self, request: HttpRequest, obj: Row | None = None) -> list[Any]:
        return [
            (title, {**options, "fields": self._columns(request, options["fields"], MAX_PAGE_LENGTH)})
            for title, options in super().get_fieldsets(request, obj)
        ]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow only declared lookups: by filtering on a text, staff who may not read it could guess it."""
        if lookup in self.extra_lookups and lookup.endswith("__exact"):
            return is_valid_value(self.opts.get_field(lookup.removesuffix("__exact")), value)
        return lookup in self.extra_lookups or any(
            lookup in _query_params_of(list_filter) for list_filter in self.list_filter
        )

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [*self.search_ids, *self.search_names]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Row], search_term: str
    ) -> tuple[QuerySet[Row], bool]:
        term = search_term.strip()
        return queryset.filter(self.search_condition(term)) if term else queryset, False

    def search_condition(self, term: str) -> Q:
        """Compare whole names or ids, each by its index; no text that people wrote is searched."""
        id = parse_uuid(term) if self.search_ids else None
        values = dict.fromkeys(self.search_ids, id) if id else dict.fromkeys(self.search_names, term)
        conditions = [Q(**{field: value}) for field, value in values.items()]
        return reduce(or_, conditions) if conditions else Q(pk=None)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None) or {}
        row_count = len(context["cl"].result_list) if "cl" in context else 0
        if (
            row_count
            and set(self.content_fields).intersection(self.list_display)
            and can_read_content(request)
        ):
            self.log_list_reading(request, row_count)
        return response

    def log_list_reading(self, request: HttpRequest, row_count: int) -> None:
        log_reading(request, self.model, f"a list of {row_count} {self.opts.verbose_name_plural}")

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, object],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Row | None = None,
    ) -> HttpResponse:
        if obj is not None and self.content_fields and can_read_content(request):
            log_reading(request, self.model, str(obj), obj.pk)
        context |= self.page_context(request, obj) if obj is not None else {}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def page_context(self, request: HttpRequest, row: Row) -> dict[str, object]:
        """Return the template context of what a row's page shows in addition to its fields."""
        return {}

    def _columns(self, request: HttpRequest, names: Iterable[Any], max_length: int) -> list[Column]:
        can_read = can_read_content(request)
        return [
            _content_column(name, can_read, max_length) if name in self.content_fields else name
            for name in names
        ]


def _content_column(name: str, can_read: bool, max_length: int) -> Column:
    """Return a column or field that shows the text, or only its length to staff who may not read it."""

    @admin.display(description=name.replace("_", " "))
    def field_text(row: Model) -> str:
        value = getattr(row, name)
        if value in (None, "", [], {}):
            return "-"
        if not can_read:
            return describe_size(value)
        text = _as_text(value)
        truncated = text if len(text) <= max_length else text[:max_length] + "…"
        return (
            truncated
            if max_length == MAX_LIST_LENGTH
            else format_html('<div class="message-text">{}</div>', truncated)
        )

    field_text.__name__ = name
    return field_text


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)


def _query_params_of(list_filter: Any) -> set[str]:
    if isinstance(list_filter, str | tuple | list):
        name = list_filter if isinstance(list_filter, str) else list_filter[0]
        return {f"{name}__{lookup}" for lookup in ("exact", "isnull", "gte", "lt")}
    return {list_filter.parameter_name}
