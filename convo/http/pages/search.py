"""The search page: over all that was said, what is known, and the titles of the conversations."""

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
from convo.history import Line
from convo.http.pages.door import me, mine, page, session_of, show
from convo.http.pages.shown import title_of
from convo.models import Person, Session, UserMemory
from convo.search import LONGEST, Hit

AT_A_TIME, MOST = 10, 100
MEMORIES, TITLES = 5, 5
# How much of a long message is shown, and how much of it before the first word that was found.
SHOWN, BEFORE, NEAR = 360, 90, 180


class Wanted(forms.Form):
    """What the address asks for."""

    q = forms.CharField(required=False, max_length=LONGEST)
    agent = forms.ChoiceField(required=False)
    after = forms.DateField(required=False, input_formats=["%Y-%m-%d"])
    session = forms.UUIDField(required=False)
    first = forms.IntegerField(required=False, min_value=1, max_value=MOST)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        agent: Any = self.fields["agent"]
        agent.choices = [(name, title_of(name)) for name in agents.everyone()]


class Piece(NamedTuple):
    """A stretch of a text: one of the words that were looked for, or what stands between them."""

    text: str
    marked: bool


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A line next to one that was found."""

    who: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """A message that was found: in which conversation, who said it, and the part that matters."""

    hit: Hit
    session: Any
    who: str
    pieces: Sequence[Piece]
    before: Sequence[Beside]
    after: Sequence[Beside]


@page
@require_safe
def search(request: HttpRequest) -> HttpResponseBase:
    """What answers `q` best, the best first, with the lines around it."""
    form = Wanted(request.GET)
    wanted = form.cleaned_data if form.is_valid() else {}
    session = session_of(request, wanted["session"]) if wanted.get("session") else None
    context = {
        "q": request.GET.get("q", "").strip(),
        "wanted": wanted,
        "agents": form.fields["agent"].choices,  # type: ignore[attr-defined]
        "only": mine(request).filter(pk=session.pk).first() if session else None,
        "problems": [problem for problems in form.errors.values() for problem in problems],
    }
    if wanted.get("q"):
        try:
            context |= _results(request, wanted, session)
        except ConvoError as error:
            context["problems"] = [error.message]
    status = 400 if context["problems"] else 200
    return show(request, "convo/search.html", context, place="search", status=status)


def _results(request: HttpRequest, wanted: Mapping[str, Any], session: Session | None) -> dict[str, Any]:
    person, query, first = me(request), wanted["q"], wanted["first"] or AT_A_TIME
    if person is None:
        return {"searched": True}
    after = wanted["after"] and datetime.combine(wanted["after"], time.min, UTC)
    hits = core.find(
        person,
        request.user,
        query,
        session=session,
        agent=wanted["agent"],
        after=after,
        limit=first + 1,
        neighbours=1,
    )
    narrowed = any([session, wanted["agent"], after])
    return {
        "searched": True,
        "found": _found(request, hits[:first]),
        "memories": [] if narrowed else _memories(person, query),
        "titled": [] if narrowed else _titled(request, query),
        "narrowed": narrowed,
        "more": _more(request, first) if len(hits) > first and first < MOST else None,
    }


def _found(request: HttpRequest, hits: Sequence[Hit]) -> list[Found]:
    sessions = {row.pk: row for row in mine(request).filter(pk__in={hit.session_id for hit in hits})}
    return [
        Found(
            hit=hit,
            session=sessions[hit.session_id],
            who=_who(hit, sessions[hit.session_id]),
            pieces=list(pieces(hit.content, hit.highlights)),
            before=_beside(hit.before, sessions[hit.session_id]),
            after=_beside(hit.after, sessions[hit.session_id]),
        )
        for hit in hits
        if hit.session_id in sessions
    ]


def _who(said: Hit | Line, session: Session) -> str:
    if said.role == "user":
        return said.name or "You"
    return said.name or (title_of(said.agent or session.agent) if said.role == "assistant" else said.role)


def _beside(lines: Sequence[Line], session: Session) -> list[Beside]:
    said = [line for line in lines if line.content.strip()]
    return [Beside(who=_who(line, session), text=line.content[:NEAR]) for line in said]


def _memories(person: Person, query: str) -> list[UserMemory]:
    """What is known that bears on it, the best first: nothing that no prompt would hold."""
    keys = [pk for pk, _ in core.find_memories(person, query, limit=MEMORIES)]
    known = {row.pk: row for row in UserMemory.objects.known(person).filter(pk__in=keys)}
    return [known[pk] for pk in keys if pk in known]


def _titled(request: HttpRequest, query: str) -> list[Any]:
    """The conversations that are called so, those that were put away among them."""
    called = Q()
    for word in query.split():
        called &= Q(title__icontains=word)
    return list(mine(request).filter(called).order_by("-last_activity", "id")[:TITLES])


def _more(request: HttpRequest, first: int) -> str:
    """The address of this page with more of what was found, from there on where it ends now."""
    query = {**request.GET.dict(), "first": min(first + AT_A_TIME, MOST)}
    return f"?{urlencode(query)}#hit-{first + 1}"


def pieces(text: str, highlights: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    """The stretch of a text in which most of the highlights stand, cut where one begins and ends."""
    start, end = _stretch(text, highlights)
    if start:
        yield Piece("… ", marked=False)
    at = start
    for left, right in highlights:
        if start <= left and right <= end:
            yield Piece(text[at:left], marked=False)
            yield Piece(text[left:right], marked=True)
            at = right
    yield Piece(text[at:end], marked=False)
    if end < len(text):
        yield Piece(" …", marked=False)


def _stretch(text: str, highlights: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Where to begin and to end, between words where there are any."""
    if len(text) <= SHOWN + BEFORE:
        return 0, len(text)

    def held(begin: int) -> int:
        return sum(begin <= left and right <= begin + SHOWN for left, right in highlights)

    begins = [max(0, left - BEFORE) for left, _ in highlights] or [0]
    start = max(begins, key=lambda begin: (held(begin), -begin))
    end = min(len(text), start + SHOWN)
    inside = [pair for pair in highlights if start <= pair[0] and pair[1] <= end]
    # A word that was found is not cut for the sake of a space.
    first, last = (inside[0][0], inside[-1][1]) if inside else (end, start)
    space = text.find(" ", start, first)
    if start and space >= 0:
        start = space + 1
    space = text.rfind(" ", last, end)
    return start, space if end < len(text) and space > start else end
