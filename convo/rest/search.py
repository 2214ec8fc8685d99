"""The REST API: search in messages."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import search
from convo.errors import InvalidRequest, MissingParameter
from convo.history import TranscriptMessage
from convo.http.auth import requested_person
from convo.models import Person
from convo.rest import schema
from convo.rest.viewset import ConvoViewSet
from convo.search import MAX_QUERY_LENGTH, Hit


class SearchViewSet(ConvoViewSet):
    """Search in messages, by words and by meaning."""

    allowed_params = {"list": ("q", "session", "agent", "after", "before", "page_size")}

    @extend_schema(
        operation_id="search", parameters=schema.SEARCH_PARAMETERS, responses=schema.SEARCH_RESPONSES
    )
    def list(self, request: Request) -> Response:
        """The messages that match `q` best, the best first, each with the messages around it."""
        params, scope, query = self.params, self._scope(request), self._query()
        results = search.find(
            **scope,
            query=query,
            agent=params.text("agent"),
            after=params.date_time("after"),
            before=params.date_time("before"),
            limit=params.page_size(),
        )
        return Response({"results": [search_result_json(request, result) for result in results]})

    def _query(self) -> str:
        query = self.params.text("q").strip()
        if not query:
            raise MissingParameter("`q` is missing: the words or the question to search for.", param="q")
        if len(query) > MAX_QUERY_LENGTH:
            raise InvalidRequest(f"`q` takes up to {MAX_QUERY_LENGTH} characters.", param="q")
        return query

    def _scope(self, request: Request) -> dict[str, Any]:
        """Return the search scope: a session, the end user who is named, or everything of the owner."""
        user, session_id = requested_person(request), self.params.text("session")
        owner: Any = request.user
        if session_id:
            session = self.get_session(session_id)
            return {"person": session.person, "owner": owner, "session": session}
        if user is None:
            return {"person": None, "owner": owner}
        # An unknown end user has no messages, and a search must not create a row for them.
        person = Person.objects.filter(owner=owner, ref=user).first()
        return {"person": person or Person(owner=owner, ref=user), "owner": owner}


def search_result_json(request: Request, result: Hit) -> dict[str, Any]:
    session_url = request.build_absolute_uri(reverse("session-detail", args=[result.session_id]))
    return {
        "session": str(result.session_id),
        "turn": result.turn_number,
        "position": result.position,
        "id": result.item_id,
        "role": result.role,
        "name": result.name or None,
        "text": result.content,
        "highlights": [{"start": start, "end": end} for start, end in result.highlights],
        "score": result.score,
        "score_parts": result.parts,
        "before": [_neighbour_json(neighbour) for neighbour in result.before],
        "after": [_neighbour_json(neighbour) for neighbour in result.after],
        "created_at": result.created_at,
        "links": {"session": session_url, "message": f"{session_url}messages/{result.position}/"},
    }


def _neighbour_json(neighbour: TranscriptMessage) -> dict[str, Any]:
    return {
        "position": neighbour.position,
        "role": neighbour.role,
        "name": neighbour.name or None,
        "text": neighbour.content,
    }
