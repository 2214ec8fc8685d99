"""Pages of lists: the links to the next and the previous one."""

from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

from django.db.models import Model, QuerySet
from rest_framework.request import Request

from convo.http import keyset

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
    """The rows with the latest such moment first, with links in the place of cursors."""
    part = keyset.part(rows, by=by, cursor=cursor, size=size, reader=request.user.pk)
    next, previous = (link(request, cursor=one) if one else None for one in (part.next, part.previous))
    return Page(part.rows, next=next, previous=previous)
