"""The list of all conversations, and what is done with one as a whole: rename, put away, delete, undo."""

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
from django.utils.dateformat import format as dated
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from convo import turns
from convo.errors import ConvoError, InvalidRequest
from convo.http import keyset
from convo.http.pages.door import listed, page, refused, session_of, show
from convo.models import Session

Act = Callable[[HttpRequest, UUID], HttpResponseBase]

AT_A_TIME = 40
LONGEST_TITLE, LONGEST_FIND = 300, 200
State = Session.State


@page
@require_safe
def conversations(request: HttpRequest) -> HttpResponseBase:
    """All of the visitor's conversations, the most recently active first."""
    try:
        return _listed(request)
    except InvalidRequest as error:
        return _refused(request, error)


def act(does: Act) -> Callable[..., HttpResponseBase]:
    """A form's target, which leads back to where the form stood; a refusal is told above the list."""

    @page
    @require_POST
    @wraps(does)
    def done(request: HttpRequest, id: UUID) -> HttpResponseBase:
        try:
            return does(request, id)
        except ConvoError as error:
            return _refused(request, error)

    return done


@act
def rename(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Give it a title; without one it goes by its first words, until it gets one of its own."""
    title = " ".join(request.POST.get("title", "").split())
    if len(title) > LONGEST_TITLE or "\0" in title:
        raise InvalidRequest(f"A title takes up to {LONGEST_TITLE} characters of text.", param="title")
    Session.objects.filter(pk=session_of(request, id).pk).change(title=title)
    return _back(request, id)


@act
def archive(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Put it away, or take it out again."""
    states = {"archived": (State.OPEN, State.ARCHIVED), "open": (State.ARCHIVED, State.OPEN)}
    wanted = request.POST.get("state", "")
    if wanted not in states:
        raise InvalidRequest("`state` is archived or open.", param="state")
    now, then = states[wanted]
    Session.objects.filter(pk=session_of(request, id).pk, state=now).change(state=then)
    return _back(request, id)


@act
def delete(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Delete it with everything in it; the page that follows offers to undo that."""
    turns.discard(session_of(request, id))
    return _back(request, None, deleted=str(id))


@act
def undo(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Have it back as it was."""
    turns.bring_back(id, request.user if request.user.is_authenticated else None)
    return _back(request, id)


def _refused(request: HttpRequest, error: ConvoError) -> HttpResponseBase:
    return refused(request, error, lambda error: _listed(request, error))


def _listed(request: HttpRequest, error: ConvoError | None = None) -> HttpResponse:
    given = request.GET if error is None else QueryDict()
    archived, find = given.get("state") == State.ARCHIVED, given.get("find", "").strip()
    part = keyset.part(
        _those(request, find, archived=archived),
        by="last_activity",
        cursor=given.get("cursor", ""),
        size=AT_A_TIME,
        reader=request.user.pk,
    )
    kept = {name: value for name, value in {"state": archived and "archived", "find": find}.items() if value}
    context = {
        "groups": [(name, list(rows)) for name, rows in _by_time(part.rows)],
        "archived": archived,
        "find": find,
        "newer": part.previous and f"?{urlencode({**kept, 'cursor': part.previous})}",
        "older": part.next and f"?{urlencode({**kept, 'cursor': part.next})}",
        "here": _without_undo(request.get_full_path()) if error is None else reverse("conversations"),
        "error": error,
    }
    status = error.status if error else 200
    return show(request, "convo/conversations.html", context, place="conversations", status=status)


def _those(request: HttpRequest, find: str, *, archived: bool) -> QuerySet[Any]:
    """The visitor's that are put away, or the others; with these words in the title or in the first ones."""
    if len(find) > LONGEST_FIND or "\0" in find:
        raise InvalidRequest(f"Look for up to {LONGEST_FIND} characters of text.", param="find")
    put_away = Q(state=State.ARCHIVED)
    rows = listed(request).filter(put_away if archived else ~put_away)
    for word in find.split():
        rows = rows.filter(Q(title__icontains=word) | Q(opening__icontains=word))
    return rows


def _by_time(rows: list[Any]) -> Iterator[tuple[str, Iterator[Any]]]:
    """The rows under the names of their days, weeks and months, in one order from the start."""
    today = timezone.localdate()
    return groupby(rows, key=lambda row: _time_of(timezone.localdate(row.last_activity), today))


def _time_of(day: date, today: date) -> str:
    for name, days in (("Today", 0), ("Yesterday", 1), ("The last seven days", 7)):
        if day >= today - timedelta(days=days):
            return name
    return dated(day, "F" if day.year == today.year else "F Y")


def _back(request: HttpRequest, id: UUID | None, **told: str) -> HttpResponseBase:
    """To the page that the form stood on, or to the conversation that was meant, or to a new one."""
    onward = request.POST.get("next", "")
    if not (onward.startswith("/") and url_has_allowed_host_and_scheme(onward, allowed_hosts=None)):
        onward = reverse("conversation", args=[id]) if id else reverse("chat")
    return redirect(_without_undo(onward, **told))


def _without_undo(address: str, **told: str) -> str:
    """This address without what was told on its page, and with what is to be told now."""
    parts = urlsplit(address)
    query = QueryDict(parts.query, mutable=True)
    query.pop("deleted", None)
    query.update(told)
    return parts._replace(query=query.urlencode()).geturl()
