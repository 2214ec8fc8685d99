"""The search page, over messages, memories and the titles of conversations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django import forms
from django.db.models import Q
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from convo import agents
from convo import search as core
from convo.errors import ConvoError
from convo.history import TranscriptMessage
from convo.models import Person, Session, UserMemory
from convo.pages.exchanges import agent_title
from convo.pages.page import page, person_of_visitor, render_page, session_of, sessions_of_visitor
from convo.search import MAX_QUERY_LENGTH, Hit

AT_A_TIME, MAX_RESULTS = 10, 100
MEMORIES, TITLES = 5, 5
# Characters of a long message that are shown, those before its first match, and those of a neighbour.
EXCERPT_LENGTH, EXCERPT_LEAD, NEIGHBOUR_LENGTH = 360, 90, 180


def _agent_choices() -> list[tuple[str, str]]:
    return [(name, agent_title(name)) for name in agents.all_agents()]


class SearchForm(forms.Form):
    """The query parameters of the search page."""

    q = forms.CharField(required=False, max_length=MAX_QUERY_LENGTH)
    agent = forms.ChoiceField(required=False, choices=_agent_choices)
    after = forms.DateField(required=False, input_formats=["%Y-%m-%d"])
    session = forms.UUIDField(required=False)
    first = forms.IntegerField(required=False, min_value=1, max_value=MAX_RESULTS)


class ExcerptPiece(NamedTuple):
    """A piece of an excerpt: a highlighted word, or the text between two of them."""

    text: str
    is_highlighted: bool


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A message that matches, with its conversation, its author, an excerpt, and its neighbours.

    A neighbour is a message next to it, as its author and the beginning of its text.
    """

    match: Hit
    session: Any
    author: str
    pieces: Sequence[ExcerptPiece]
    before: Sequence[tuple[str, str]]
    after: Sequence[tuple[str, str]]


@page
@require_safe
def search(request: HttpRequest) -> HttpResponseBase:
    form = SearchForm(request.GET)
    params = form.cleaned_data if form.is_valid() else {}
    session = session_of(request, params["session"]) if params.get("session") else None
    context: dict[str, Any] = {
        "q": request.GET.get("q", "").strip(),
        "wanted": params,
        "agents": _agent_choices(),
        "only": session,
        "problems": [problem for field_problems in form.errors.values() for problem in field_problems],
    }
    if params.get("q"):
        try:
            context |= _results_context(request, params, session)
        except ConvoError as error:
            context["problems"] = [error.message]
    status = 400 if context["problems"] else 200
    return render_page(request, "convo/search.html", context, section="search", status=status)


def _results_context(
    request: HttpRequest, params: Mapping[str, Any], session: Session | None
) -> dict[str, Any]:
    person, query, limit = person_of_visitor(request), params["q"], params["first"] or AT_A_TIME
    if person is None:
        return {"searched": True}
    after = params["after"] and datetime.combine(params["after"], time.min, UTC)
    matches = core.find(
        person,
        request.user,
        query,
        session=session,
        agent=params["agent"],
        after=after,
        limit=limit + 1,
        neighbours=1,
    )
    is_narrowed = any([session, params["agent"], after])
    return {
        "searched": True,
        "found": _search_results(request, matches[:limit]),
        "memories": [] if is_narrowed else _matching_memories(person, query),
        "titled": [] if is_narrowed else _sessions_by_title(request, query),
        "narrowed": is_narrowed,
        "more": _more_url(request, limit) if len(matches) > limit and limit < MAX_RESULTS else None,
    }


def _search_results(request: HttpRequest, matches: Sequence[Hit]) -> list[SearchResult]:
    sessions = sessions_of_visitor(request).in_bulk({match.session_id for match in matches})
    return [
        SearchResult(
            match=match,
            session=session,
            author=_author(match, session),
            pieces=list(excerpt(match.content, match.highlights)),
            before=_neighbours(match.before, session),
            after=_neighbours(match.after, session),
        )
        for match in matches
        if (session := sessions.get(match.session_id))
    ]


def _author(message: Hit | TranscriptMessage, session: Session) -> str:
    if message.role == "user":
        return message.name or "You"
    return message.name or (
        agent_title(message.agent or session.agent) if message.role == "assistant" else message.role
    )


def _neighbours(messages: Sequence[TranscriptMessage], session: Session) -> list[tuple[str, str]]:
    return [
        (_author(message, session), message.content[:NEIGHBOUR_LENGTH])
        for message in messages
        if message.content.strip()
    ]


def _matching_memories(person: Person, query: str) -> list[UserMemory]:
    """Return the memories that match, the best first, and only those that a prompt may contain."""
    keys = [pk for pk, _ in core.find_memories(person, query, limit=MEMORIES)]
    memories = UserMemory.objects.for_prompt(person).in_bulk(keys)
    return [memories[pk] for pk in keys if pk in memories]


def _sessions_by_title(request: HttpRequest, query: str) -> list[Any]:
    title_filter = Q()
    for word in query.split():
        title_filter &= Q(title__icontains=word)
    return list(sessions_of_visitor(request).filter(title_filter).order_by("-last_activity", "id")[:TITLES])


def _more_url(request: HttpRequest, limit: int) -> str:
    query = {**request.GET.dict(), "first": min(limit + AT_A_TIME, MAX_RESULTS)}
    return f"?{urlencode(query)}#hit-{limit + 1}"


def excerpt(text: str, highlights: Sequence[tuple[int, int]]) -> Iterator[ExcerptPiece]:
    """Yield the excerpt with most of the highlights, cut where a highlight starts and ends."""
    start, end = _excerpt_bounds(text, highlights)
    if start:
        yield ExcerptPiece("… ", is_highlighted=False)
    position = start
    for match_start, match_end in highlights:
        if start <= match_start and match_end <= end:
            yield ExcerptPiece(text[position:match_start], is_highlighted=False)
            yield ExcerptPiece(text[match_start:match_end], is_highlighted=True)
            position = match_end
    yield ExcerptPiece(text[position:end], is_highlighted=False)
    if end < len(text):
        yield ExcerptPiece(" …", is_highlighted=False)


def _excerpt_bounds(text: str, highlights: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the start and the end of the excerpt, between words if there are any."""
    if len(text) <= EXCERPT_LENGTH + EXCERPT_LEAD:
        return 0, len(text)

    def highlight_count(window_start: int) -> int:
        return sum(
            window_start <= match_start and match_end <= window_start + EXCERPT_LENGTH
            for match_start, match_end in highlights
        )

    window_starts = [max(0, match_start - EXCERPT_LEAD) for match_start, _ in highlights] or [0]
    start = max(window_starts, key=lambda window_start: (highlight_count(window_start), -window_start))
    end = min(len(text), start + EXCERPT_LENGTH)
    visible_highlights = [pair for pair in highlights if start <= pair[0] and pair[1] <= end]
    # The cut between words never cuts off a highlight.
    first_match_start, last_match_end = (
        (visible_highlights[0][0], visible_highlights[-1][1]) if visible_highlights else (end, start)
    )
    space = text.find(" ", start, first_match_start)
    if start and space >= 0:
        start = space + 1
    space = text.rfind(" ", last_match_end, end)
    return start, space if end < len(text) and space > start else end
