"""Pages of lists: the links to the next and the previous one."""

from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.utils.dateparse import parse_datetime
from rest_framework.request import Request

from convo.errors import InvalidRequest

R = TypeVar("R", bound=Model)


class Page(NamedTuple, Generic[R]):
    rows: list[R]
    next: str | None
    previous: str | None


def link(request: Request, **changes: Any) -> str:
    """This request's address with other parameters; None removes one."""
    given = {**request.query_params.dict(), **changes}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return request.build_absolute_uri(f"{request.path}?{query}")


def page_by(request: Request, rows: QuerySet[R], *, by: str, cursor: str, size: int) -> Page[R]:
    """The rows with the latest such moment first; a page starts where the last one ended, whatever moved."""
    backwards, salt = False, _salt(request, rows.model)
    if cursor:
        backwards, moment, id = _read(cursor, salt)
        side, other = ("gt", "lt") if backwards else ("lt", "gt")
        rows = rows.filter(Q(**{f"{by}__{side}": moment}) | Q(**{by: moment, f"id__{other}": id}))
    order = (by, "-id") if backwards else (f"-{by}", "id")
    found = list(rows.order_by(*order)[: size + 1])
    more, found = len(found) > size, found[:size]
    if backwards:
        found.reverse()
    # A cursor came from a row on the other side of it, so that side has more.
    on, back = (more or backwards), (more if backwards else bool(cursor))

    def beyond(edge: list[R], *, backwards: bool) -> str | None:
        if not edge:
            return None
        place = [backwards, getattr(edge[0], by).isoformat(), str(edge[0].pk)]
        return link(request, cursor=signing.dumps(place, salt=salt))

    return Page(
        found,
        next=beyond(found[-1:], backwards=False) if on else None,
        previous=beyond(found[:1], backwards=True) if back else None,
    )


def _read(cursor: str, salt: str) -> tuple[bool, Any, str]:
    try:
        backwards, moment, id = signing.loads(cursor, salt=salt)
    except signing.BadSignature as error:
        raise InvalidRequest(
            "`cursor` is none of ours. Follow the links in `next` and `previous`.", param="cursor"
        ) from error
    return backwards, parse_datetime(moment), id


def _salt(request: Request, model: type[Model]) -> str:
    # Signed for its owner and its list: nobody can page with somebody else's cursor, or with another list's.
    return f"convo.{model._meta.verbose_name_plural}:{request.user.pk}"
