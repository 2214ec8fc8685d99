"""Pages of lists: the links to the next and the previous one."""

from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.core import signing
from django.db.models import Q, QuerySet
from django.utils.dateparse import parse_datetime
from rest_framework.request import Request

from convo.errors import InvalidRequest
from convo.models import Session


class SessionPage(NamedTuple):
    sessions: list[Session]
    next: str | None
    previous: str | None


def link(request: Request, **changes: Any) -> str:
    """This request's address with other parameters; None removes one."""
    given = {**request.query_params.dict(), **changes}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return request.build_absolute_uri(f"{request.path}?{query}")


def sessions_page(request: Request, sessions: QuerySet[Session], *, cursor: str, size: int) -> SessionPage:
    """The most recently active first; a page starts where the last one ended, whatever has moved since."""
    backwards, rows = False, sessions
    if cursor:
        backwards, moment, id = _read(request, cursor)
        rows = rows.filter(
            Q(last_activity__gt=moment) | Q(last_activity=moment, id__lt=id)
            if backwards
            else Q(last_activity__lt=moment) | Q(last_activity=moment, id__gt=id)
        )
    order = ("last_activity", "-id") if backwards else ("-last_activity", "id")
    found = list(rows.order_by(*order)[: size + 1])
    more, found = len(found) > size, found[:size]
    if backwards:
        found.reverse()
    # A cursor came from a row on the other side of it, so that side has more.
    on, back = (more or backwards), (more if backwards else bool(cursor))
    return SessionPage(
        found,
        next=_link(request, found[-1:], backwards=False) if on else None,
        previous=_link(request, found[:1], backwards=True) if back else None,
    )


def _link(request: Request, edge: list[Session], *, backwards: bool) -> str | None:
    if not edge:
        return None
    place = [backwards, edge[0].last_activity.isoformat(), str(edge[0].pk)]
    return link(request, cursor=signing.dumps(place, salt=_salt(request)))


def _read(request: Request, cursor: str) -> tuple[bool, Any, str]:
    try:
        backwards, moment, id = signing.loads(cursor, salt=_salt(request))
    except signing.BadSignature as error:
        raise InvalidRequest(
            "`cursor` is none of ours. Follow the links in `next` and `previous`.", param="cursor"
        ) from error
    return backwards, parse_datetime(moment), id


def _salt(request: Request) -> str:
    # Signed for its owner: nobody can page with somebody else's cursor.
    return f"convo.sessions:{request.user.pk}"
