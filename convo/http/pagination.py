"""Keyset pagination of long lists: no row is skipped or shown twice, and none are counted."""

from typing import Any, Generic, NamedTuple, TypeVar

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.utils.dateparse import parse_datetime

from convo.errors import InvalidRequest

R = TypeVar("R", bound=Model)


class CursorPage(NamedTuple, Generic[R]):
    """One page of rows, with the cursors of the next and the previous page."""

    rows: list[R]
    next: str | None
    previous: str | None


def paginate(rows: QuerySet[R], *, order_by: str, cursor: str, size: int, owner_id: object) -> CursorPage[R]:
    """Return a page of rows, the latest `order_by` first, from where the last page ended."""
    backwards, salt = False, _salt(owner_id, rows.model)
    if cursor:
        backwards, moment, id = _decode(cursor, salt)
        operator, tie_operator = ("gt", "lt") if backwards else ("lt", "gt")
        rows = rows.filter(
            Q(**{f"{order_by}__{operator}": moment}) | Q(**{order_by: moment, f"id__{tie_operator}": id})
        )
    order = (order_by, "-id") if backwards else (f"-{order_by}", "id")
    page_rows = list(rows.order_by(*order)[: size + 1])
    has_more, page_rows = len(page_rows) > size, page_rows[:size]
    if backwards:
        page_rows.reverse()
    # A cursor comes from a row on the neighbouring page, so there are more rows on that side.
    has_next, has_previous = (has_more or backwards), (has_more if backwards else bool(cursor))

    def cursor_at(edge_rows: list[R], *, backwards: bool) -> str | None:
        if not edge_rows:
            return None
        values = [backwards, getattr(edge_rows[0], order_by).isoformat(), str(edge_rows[0].pk)]
        return signing.dumps(values, salt=salt)

    return CursorPage(
        page_rows,
        next=cursor_at(page_rows[-1:], backwards=False) if has_next else None,
        previous=cursor_at(page_rows[:1], backwards=True) if has_previous else None,
    )


def _decode(cursor: str, salt: str) -> tuple[bool, Any, str]:
    try:
        backwards, moment, id = signing.loads(cursor, salt=salt)
    except signing.BadSignature as error:
        raise InvalidRequest(
            "`cursor` is not valid. Follow the links to the next and the previous page.", param="cursor"
        ) from error
    return backwards, parse_datetime(moment), id


def _salt(reader: object, model: type[Model]) -> str:
    # A cursor is valid for one reader and one list only, so nobody can use another's.
    return f"convo.{model._meta.verbose_name_plural}:{reader}"
