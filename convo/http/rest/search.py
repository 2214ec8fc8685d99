"""The REST API: search in what was said."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import search
from convo.errors import InvalidRequest, MissingParameter
from convo.history import Line
from convo.http.auth import named_person
from convo.http.rest import schema
from convo.http.rest.viewset import ConvoViewSet
from convo.models import Person
from convo.search import LONGEST, Hit


class SearchViewSet(ConvoViewSet):
    """Search over all that was said, by words and by meaning."""

    parameters = {"list": ("q", "session", "agent", "after", "before", "page_size")}

    @extend_schema(
        operation_id="search", parameters=schema.SEARCH_PARAMETERS, responses=schema.SEARCH_ANSWERS
    )
    def list(self, request: Request) -> Response:
        """The messages that answer `q` best, the best first, each with the lines around it."""
        asked, whose, query = self.asked, self._whose(request), self._query()
        hits = search.find(
            **whose,
            query=query,
            agent=asked.text("agent"),
            after=asked.moment("after"),
            before=asked.moment("before"),
            limit=asked.page_size(),
        )
        return Response({"results": [hit_json(request, hit) for hit in hits]})

    def _query(self) -> str:
        query = self.asked.text("q").strip()
        if not query:
            raise MissingParameter("`q` says what to search for.", param="q")
        if len(query) > LONGEST:
            raise InvalidRequest(f"`q` takes up to {LONGEST} characters.", param="q")
        return query

    def _whose(self, request: Request) -> dict[str, Any]:
        """Whose messages: those of a session, of the end user who is named, or all of the caller's."""
        named, id = named_person(request), self.asked.text("session")
        owner: Any = request.user
        if id:
            session = self.session(id)
            return {"person": session.person, "owner": owner, "session": session}
        if named is None:
            return {"person": None, "owner": owner}
        # Somebody who has never been heard of has said nothing; looking for them doesn't make them known.
        person = Person.objects.filter(owner=owner, ref=named).first()
        return {"person": person or Person(owner=owner, ref=named), "owner": owner}


def hit_json(request: Request, hit: Hit) -> dict[str, Any]:
    session = request.build_absolute_uri(reverse("session-detail", args=[hit.session_id]))
    return {
        "session": str(hit.session_id),
        "turn": hit.turn,
        "position": hit.position,
        "id": hit.item_id,
        "role": hit.role,
        "name": hit.name or None,
        "text": hit.content,
        "highlights": [{"start": start, "end": end} for start, end in hit.highlights],
        "score": hit.score,
        "score_parts": hit.parts,
        "before": [_line_json(line) for line in hit.before],
        "after": [_line_json(line) for line in hit.after],
        "created_at": hit.created_at,
        "links": {"session": session, "message": f"{session}messages/{hit.position}/"},
    }


def _line_json(line: Line) -> dict[str, Any]:
    return {"position": line.position, "role": line.role, "name": line.name or None, "text": line.content}
