"""Pages of long lists by the place where one ended: no row is skipped over, counted or shown twice."""

from typing import Any, Generic, NamedTuple, TypeVar

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.utils.dateparse import parse_datetime

from convo.errors import InvalidRequest

R = TypeVar("R", bound=Model)


class Part(NamedTuple, Generic[R]):
    """Some rows of a list, and the cursors of what follows and of what came before."""

    rows: list[R]
    next: str | None
    previous: str | None


def part(rows: QuerySet[R], *, by: str, cursor: str, size: int, reader: object) -> Part[R]:
    """The rows with the latest such moment first; a part starts where the last one ended, whatever moved."""
    backwards, salt = False, _salt(reader, rows.model)
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
        return signing.dumps(place, salt=salt)

    return Part(
        found,
        next=beyond(found[-1:], backwards=False) if on else None,
        previous=beyond(found[:1], backwards=True) if back else None,
    )


def _read(cursor: str, salt: str) -> tuple[bool, Any, str]:
    try:
        backwards, moment, id = signing.loads(cursor, salt=salt)
    except signing.BadSignature as error:
        raise InvalidRequest(
            "`cursor` is none of ours. Follow the links to the next and the previous page.", param="cursor"
        ) from error
    return backwards, parse_datetime(moment), id


def _salt(reader: object, model: type[Model]) -> str:
    # Signed for its reader and its list: nobody can page with somebody else's cursor, or with another list's.
    return f"convo.{model._meta.verbose_name_plural}:{reader}"
