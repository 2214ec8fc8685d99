"""Pages of lists, with links to the next and the previous page."""

from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

from django.db.models import Model, QuerySet
from rest_framework.request import Request

from convo.http import pagination

R = TypeVar("R", bound=Model)


class LinkedPage(NamedTuple, Generic[R]):
    rows: list[R]
    next: str | None
    previous: str | None


def url_with_params(request: Request, **changes: Any) -> str:
    """Return the address of this request with other query parameters; None removes one."""
    query_params = {**request.query_params.dict(), **changes}
    query = urlencode({name: value for name, value in query_params.items() if value is not None})
    return request.build_absolute_uri(f"{request.path}?{query}")


def paginate(request: Request, rows: QuerySet[R], *, by: str, cursor: str, size: int) -> LinkedPage[R]:
    """Return a page of rows, those with the latest `by` first, with links in place of cursors."""
    page = pagination.paginate(rows, order_by=by, cursor=cursor, size=size, owner_id=request.user.pk)
    next, previous = (
        url_with_params(request, cursor=page_cursor) if page_cursor else None
        for page_cursor in (page.next, page.previous)
    )
    return LinkedPage(page.rows, next=next, previous=previous)
