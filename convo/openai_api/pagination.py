"""Pages of lists in OpenAI's form: `after` is the id of the last entry that the client has."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from rest_framework.request import Request

from convo.errors import NotFound, WrongType
from convo.openai_api.body import invalid

MAX_LIMIT, DEFAULT_LIMIT = 100, 20
_INTEGER = re.compile(r"-?[0-9]{1,9}")


class PageQuery(NamedTuple):
    """The page that a request asks for."""

    after: str
    limit: int
    newest_first: bool


def read_page_query(request: Request, *, order: str = "desc") -> PageQuery:
    """Read the page from the query string; `order` is the default."""
    query_params = request.query_params
    direction = query_params.get("order") or order
    if direction not in {"asc", "desc"}:
        raise invalid("order", "expected one of: asc, desc.")
    return PageQuery(
        query_params.get("after", ""),
        _parse_limit(query_params.get("limit") or str(DEFAULT_LIMIT)),
        direction == "desc",
    )


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
    return page_json(remaining[: page_query.limit], has_more=len(remaining) > page_query.limit)


def unknown_cursor(after: str) -> NotFound:
    return NotFound(f"No item found with id '{after}'", param="after")


def _parse_limit(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise WrongType("Invalid type for 'limit': expected an integer.", param="limit")
    if not 1 <= int(text) <= MAX_LIMIT:
        raise invalid("limit", f"expected a value from 1 to {MAX_LIMIT}.")
    return int(text)
