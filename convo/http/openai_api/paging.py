"""Pages of lists, as OpenAI's clients walk through them: `after` names the last entry that they have."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from rest_framework.request import Request

from convo.errors import NotFound, WrongType
from convo.http.openai_api.body import invalid

MOST, USUAL = 100, 20
_WHOLE = re.compile(r"-?[0-9]{1,9}")


class Asked(NamedTuple):
    """Which page is wanted."""

    after: str
    limit: int
    newest_first: bool


def asked(request: Request, *, order: str = "desc") -> Asked:
    """What the query string says; `order` is what holds when it says nothing."""
    given = request.query_params
    chosen = given.get("order") or order
    if chosen not in {"asc", "desc"}:
        raise invalid("order", "expected one of: asc, desc.")
    return Asked(given.get("after", ""), _limit(given.get("limit") or str(USUAL)), chosen == "desc")


def page_json(data: Sequence[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """The envelope of a page; an empty one has no ids."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def page_of(entries: Sequence[dict[str, Any]], wanted: Asked) -> dict[str, Any]:
    """A page of a list that is at hand whole, oldest first."""
    found = list(entries)[::-1] if wanted.newest_first else list(entries)
    if wanted.after:
        places = [place for place, entry in enumerate(found, 1) if entry["id"] == wanted.after]
        if not places:
            raise unknown(wanted.after)
        found = found[places[0] :]
    return page_json(found[: wanted.limit], has_more=len(found) > wanted.limit)


def unknown(after: str) -> NotFound:
    return NotFound(f"No item found with id '{after}'", param="after")


def _limit(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise WrongType("Invalid type for 'limit': expected an integer.", param="limit")
    if not 1 <= int(text) <= MOST:
        raise invalid("limit", f"expected a value from 1 to {MOST}.")
    return int(text)
