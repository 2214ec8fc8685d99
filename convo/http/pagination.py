"""Keyset pagination of long lists: no row is skipped or shown twice, and none are counted."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.utils.dateparse import parse_datetime

from convo.errors import InvalidRequest

R = TypeVar("R", bound=Model)
T = TypeVar("T")


class CursorPage(NamedTuple, Generic[R]):
    """One page of rows, with the cursors of the next and the previous page."""

    rows: list[R]
    next: str | None
    previous: str | None


def rows_after(
    rows: QuerySet[R], *, order_by: str, last: tuple[Any, Any] | None, newest_first: bool
) -> QuerySet[R]:
    """Return the rows in order, only those after the row with these values of `order_by` and id, if any.

    Ties are broken by id, in the opposite direction.
    """
    if last is not None:
        value, id = last
        operator, tie_operator = ("lt", "gt") if newest_first else ("gt", "lt")
        rows = rows.filter(
            Q(**{f"{order_by}__{operator}": value}) | Q(**{order_by: value, f"id__{tie_operator}": id})
        )
    return rows.order_by(*((f"-{order_by}", "id") if newest_first else (order_by, "-id")))


def first_rows(rows: Iterable[T], size: int) -> tuple[list[T], bool]:
    """Return the first `size` of these rows, and whether there are more. The others are not read."""
    page_rows = list(rows[: size + 1] if isinstance(rows, QuerySet) else islice(rows, size + 1))
    return page_rows[:size], len(page_rows) > size


def paginate(rows: QuerySet[R], *, order_by: str, cursor: str, size: int, owner_id: object) -> CursorPage[R]:
    """Return a page of rows, the latest `order_by` first, from where the last page ended."""
    salt = _salt(owner_id, rows.model)
    backwards, last = _decode(cursor, salt) if cursor else (False, None)
    rows = rows_after(rows, order_by=order_by, last=last, newest_first=not backwards)
    page_rows, has_more = first_rows(rows, size)
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


def _decode(cursor: str, salt: str) -> tuple[bool, tuple[Any, str]]:
    try:
        backwards, moment, id = signing.loads(cursor, salt=salt)
    except signing.BadSignature as error:
        raise InvalidRequest(
            "`cursor` is not valid. Follow the links to the next and the previous page.", param="cursor"
        ) from error
    return backwards, (parse_datetime(moment), id)


def _salt(owner_id: object, model: type[Model]) -> str:
    # A cursor is valid for one owner and one list only, so nobody can use another's.
    return f"convo.{model._meta.verbose_name_plural}:{owner_id}"
