"""Pages of lists in OpenAI's form: `after` is the id of the last entry that the client has."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from convo.errors import NotFound, WrongType
from convo.http.pagination import first_rows
from convo.http.query import QueryParams


class PageQuery(NamedTuple):
    """The page that a request asks for."""

    after: str
    limit: int
    newest_first: bool


def read_page_query(params: QueryParams, *, order: str = "desc") -> PageQuery:
    """Read the page from the query string; `order` is the default."""
    orders = ("asc", "desc") if order == "asc" else ("desc", "asc")
    is_newest_first = params.choice("order", *orders) == "desc"
    return PageQuery(params.text("after"), params.page_size("limit", wrong_type=WrongType), is_newest_first)


def page_json(data: Sequence[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """Render a page. `first_id` and `last_id` of an empty one are null."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def cut_page(entries: Sequence[dict[str, Any]], page_query: PageQuery) -> dict[str, Any]:
    """Cut the page out of a complete list that is ordered oldest first."""
    remaining = list(entries)[::-1] if page_query.newest_first else list(entries)
    if page_query.after:
        next_indexes = [index for index, entry in enumerate(remaining, 1) if entry["id"] == page_query.after]
        if not next_indexes:
            raise unknown_cursor(page_query.after)
        remaining = remaining[next_indexes[0] :]
    page_entries, has_more = first_rows(remaining, page_query.limit)
    return page_json(page_entries, has_more=has_more)


def unknown_cursor(after: str) -> NotFound:
    return NotFound(f"No item found with id '{after}'", param="after")
