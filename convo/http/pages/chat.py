"""The chat page: a conversation, and under each reply what the model saw of it."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from convo import agents, context, history, turns
from convo.errors import ConvoError, InvalidRequest, NotFound, TextGone, TurnInProgress
from convo.history import Upload
from convo.http import sse
from convo.http.pages.account import account
from convo.http.pages.door import by_script, page, refused, session_of, show, visitor, written
from convo.http.pages.shown import Exchange, exchanges, title_of
from convo.models import ME, Session, Turn
from convo.turns import Claim

MESSAGES = 50
WRITING = "A reply is still being written here. Wait for its end or stop it; your message is kept."
NOTHING = history.Page([], older=False, newer=False)
BEHIND_ALL = 10**15
# What a newcomer may say, and the question behind it that only memory can answer.
SUGGESTIONS = {
    "I’m choosing between the Zephyr 14 and the Atlas 15 laptops.": "Which of these did I mention first?",
    "My sister Mira visits on Sunday. She is allergic to walnuts.": "What is Mira allergic to?",
    "Our standup moves to 9:45, and the demo is on Thursday.": "When is the demo?",
}


@page
@require_http_methods(["GET", "HEAD", "POST"])
def chat(request: HttpRequest, id: UUID | None = None) -> HttpResponseBase:
    """A conversation, or the beginning of one. A POST asks."""
    session = session_of(request, id) if id else None
    if request.method != "POST":
        return conversation(request, session)
    try:
        claim = _begin(request, session)
    except ConvoError as error:
        return refuse(request, session, error)
    # A failed turn keeps its question and its error, and the page shows both.
    with suppress(ConvoError):
        answer(request, claim)
    return redirect(f"{reverse('conversation', args=[claim.session_id])}#end")


@page
@require_safe
def inspect(request: HttpRequest, id: UUID, number: int) -> HttpResponse:
    """What the model saw in this turn: each part with its sources, and what was left out."""
    session = session_of(request, id)
    turn = history.turn_of(session, number)
    seen = account(context.replay(turn))
    return show(
        request, "convo/context.html", {"session": session, "turn": turn, "account": seen}, place="chat"
    )


def answer(request: HttpRequest, claim: Claim) -> None:
    """Start the turn; the page's script reads the reply as it comes, and everybody else waits for it."""
    if by_script(request):
        sse.start(request, claim)
    else:
        sse.answer(request, claim)


def refuse(request: HttpRequest, session: Session | None, error: ConvoError) -> HttpResponseBase:
    """Why not, in words, with what was typed still in its place."""
    if isinstance(error, TurnInProgress):
        error = TurnInProgress(WRITING, retry_after=error.retry_after)
    return refused(request, error, lambda error: conversation(request, session, error))


def typed(request: HttpRequest) -> str:
    """The message that was written, if one was."""
    text = written(request, "message")
    if "\0" in text:
        raise InvalidRequest("The message holds a NUL character, which no database stores.", param="message")
    return text


def conversation(
    request: HttpRequest, session: Session | None, error: ConvoError | None = None
) -> HttpResponse:
    """The page of this conversation, or of none yet."""
    try:
        seen = _messages(request, session)
    except TextGone as gone:
        # A temporary chat after its time: there is nothing to show but why.
        seen, error = NOTHING, gone
    shown = exchanges(session, seen.messages) if session else []
    running = next((exchange for exchange in shown if exchange.live), None)
    agent = shown[-1].turn.agent if shown else session.agent if session else agents.default_name()
    context = {
        "session": session,
        "gone": isinstance(error, TextGone),
        "open": (session is None or session.state == Session.State.OPEN) and not isinstance(error, TextGone),
        "exchanges": shown,
        "running": running,
        "seen": seen,
        "agent": agent,
        "agents": agents.everyone().values(),
        "who": title_of(agent),
        "suggestions": SUGGESTIONS.items(),
        "follow_up": _follow_up(shown),
        "error": error,
        "typed": request.POST.get("message", "") if error else "",
    }
    status = error.status if error else 200
    return show(request, "convo/chat.html", context, place="chat", status=status)


def _begin(request: HttpRequest, session: Session | None) -> Claim:
    """Begin the turn that was asked for; a new conversation is stored with its first question."""
    text = typed(request)
    files = [Upload(file.name or "", file.read()) for file in request.FILES.getlist("file")]
    if not (text or files):
        raise InvalidRequest("Write a message first.", param="message")
    question = [history.with_files(text, files)]
    agent = request.POST.get("agent", "")
    if session is None:
        wished = {"storage": Session.Storage.EPHEMERAL} if request.POST.get("temporary") else {}
        session = turns.new_session(visitor(request), ME, agent=agent, **wished)
    return turns.begin(session, question, agent=agent)


def _messages(request: HttpRequest, session: Session | None) -> history.Page:
    """The newest messages, or those before the position, or around the one, that the address names."""
    if session is None:
        return NOTHING
    at, before = _position(request, "at"), _position(request, "before")
    if at is not None:
        before = at + MESSAGES // 2
    if before is None:
        # Not where the session ended when it was read: a reply may have come since.
        before = BEHIND_ALL
    return history.page(session, before=before, newest_first=False, size=MESSAGES)


def _position(request: HttpRequest, name: str) -> int | None:
    given = request.GET.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 15):
        raise NotFound(f"`{name}` is the position of a message.")
    return int(given)


def _follow_up(shown: Sequence[Exchange]) -> str | None:
    """After a suggested opening and its reply, the question that belongs to it."""
    if len(shown) != 1 or shown[0].turn.status != Turn.Status.COMPLETE or shown[0].question is None:
        return None
    return SUGGESTIONS.get(shown[0].question.content)
