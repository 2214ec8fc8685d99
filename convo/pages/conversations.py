"""The list of all conversations, and actions on a whole one: rename, archive, delete, undo."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import wraps
from itertools import groupby
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.dateformat import format as format_date
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from convo import turns
from convo.errors import ConvoError, InvalidRequest
from convo.http import pagination
from convo.http.query import QueryParams
from convo.models import Session
from convo.pages.page import listed_sessions, page, page_error_response, render_page, session_of

ListAction = Callable[[HttpRequest, UUID], HttpResponseBase]

PAGE_SIZE = 40
MAX_TITLE_LENGTH, MAX_FIND_LENGTH = 300, 200
State = Session.State


@page
@require_safe
def conversations(request: HttpRequest) -> HttpResponseBase:
    try:
        return _show_list(request)
    except InvalidRequest as error:
        return _show_error(request, error)


def list_action(view: ListAction) -> Callable[..., HttpResponseBase]:
    """Decorate the target of a form, which redirects to the form's page; show an error above the list."""

    @page
    @require_POST
    @wraps(view)
    def wrapper(request: HttpRequest, id: UUID) -> HttpResponseBase:
        try:
            return view(request, id)
        except ConvoError as error:
            return _show_error(request, error)

    return wrapper


@list_action
def rename(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Set the title. Without one, the first words stand for it until Convo writes a title."""
    title = " ".join(request.POST.get("title", "").split())
    if len(title) > MAX_TITLE_LENGTH or "\0" in title:
        raise InvalidRequest(f"A title takes up to {MAX_TITLE_LENGTH} characters of text.", param="title")
    Session.objects.filter(pk=session_of(request, id).pk).change(title=title)
    return _redirect_back(request, id)


@list_action
def archive(request: HttpRequest, id: UUID) -> HttpResponseBase:
    states = {"archived": (State.OPEN, State.ARCHIVED), "open": (State.ARCHIVED, State.OPEN)}
    state_name = request.POST.get("state", "")
    if state_name not in states:
        raise InvalidRequest("`state` is archived or open.", param="state")
    old_state, new_state = states[state_name]
    Session.objects.filter(pk=session_of(request, id).pk, state=old_state).change(state=new_state)
    return _redirect_back(request, id)


@list_action
def delete(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Delete the conversation with everything in it; the page that follows offers to undo that."""
    turns.discard(session_of(request, id))
    return _redirect_back(request, None, deleted=str(id))


@list_action
def undo(request: HttpRequest, id: UUID) -> HttpResponseBase:
    session = turns.restore(id, request.user if request.user.is_authenticated else None)
    return _redirect_back(request, session.pk)


def _show_error(request: HttpRequest, error: ConvoError) -> HttpResponseBase:
    return page_error_response(request, error, lambda error: _show_list(request, error))


def _show_list(request: HttpRequest, error: ConvoError | None = None) -> HttpResponse:
    params = QueryParams(request.GET if error is None else {})
    is_archived, find = params.text("state") == State.ARCHIVED, params.text("find").strip()
    rows_page = pagination.paginate(
        _matching_sessions(request, find, is_archived=is_archived),
        order_by="last_activity",
        cursor=params.text("cursor"),
        size=PAGE_SIZE,
        owner_id=request.user.pk,
    )
    filters = {
        name: value for name, value in {"state": is_archived and "archived", "find": find}.items() if value
    }
    context = {
        "groups": [(name, list(rows)) for name, rows in _group_by_time(rows_page.rows)],
        "archived": is_archived,
        "find": find,
        "newer": rows_page.previous and f"?{urlencode({**filters, 'cursor': rows_page.previous})}",
        "older": rows_page.next and f"?{urlencode({**filters, 'cursor': rows_page.next})}",
        "here": _without_undo_offer(request.get_full_path()) if error is None else reverse("conversations"),
        "error": error,
    }
    status = error.status if error else 200
    return render_page(request, "convo/conversations.html", context, section="conversations", status=status)


def _matching_sessions(request: HttpRequest, find: str, *, is_archived: bool) -> QuerySet[Any]:
    """Return the archived conversations or the others, with these words in their titles or first messages."""
    if len(find) > MAX_FIND_LENGTH or "\0" in find:
        raise InvalidRequest(f"The search takes up to {MAX_FIND_LENGTH} characters of text.", param="find")
    archived_filter = Q(state=State.ARCHIVED)
    rows = listed_sessions(request).filter(archived_filter if is_archived else ~archived_filter)
    for word in find.split():
        rows = rows.filter(Q(title__icontains=word) | Q(opening__icontains=word))
    return rows


def _group_by_time(rows: list[Any]) -> Iterator[tuple[str, Iterator[Any]]]:
    """Group the rows, which are sorted by time, under the names of their days, weeks and months."""
    today = timezone.localdate()
    return groupby(rows, key=lambda row: _time_heading(timezone.localdate(row.last_activity), today))


def _time_heading(day: date, today: date) -> str:
    for name, days in (("Today", 0), ("Yesterday", 1), ("The last seven days", 7)):
        if day >= today - timedelta(days=days):
            return name
    return format_date(day, "F" if day.year == today.year else "F Y")


def _redirect_back(request: HttpRequest, id: UUID | None, **params: str) -> HttpResponseBase:
    """Redirect to the page of the form, else to this conversation, else to a new one."""
    next_url = request.POST.get("next", "")
    if not (next_url.startswith("/") and url_has_allowed_host_and_scheme(next_url, allowed_hosts=None)):
        next_url = reverse("conversation", args=[id]) if id else reverse("chat")
    return redirect(_without_undo_offer(next_url, **params))


def _without_undo_offer(address: str, **params: str) -> str:
    """Return the address without its old offer to undo, and with these query parameters."""
    parts = urlsplit(address)
    query = QueryDict(parts.query, mutable=True)
    query.pop("deleted", None)
    query.update(params)
    return parts._replace(query=query.urlencode()).geturl()
