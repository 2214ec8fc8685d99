"""The chat page: a conversation and, under each reply, what the model saw."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from convo import agents, context, history, turns
from convo.errors import ContentsExpired, ConvoError, InvalidRequest, NotFound, TurnInProgress
from convo.history import NewMessage
from convo.history.files import Upload, upload_parts
from convo.http.answer import start_turn, wait_for_result
from convo.http.query import QueryParams
from convo.models import ME, Session, Turn
from convo.pages.exchanges import Exchange, agent_title, build_exchanges, unfinished_turn
from convo.pages.page import (
    form_text,
    is_from_script,
    page,
    page_error_response,
    render_page,
    restorable_session,
    session_of,
    user_or_guest,
)
from convo.pages.prompt_view import build_prompt_view
from convo.turns import Claim

PAGE_SIZE = 50
WRITING = "A reply is still being written here. Wait until it ends, or stop it; your message is kept."
NOTHING_STORED = (
    "This agent stores no messages, and a page shows only stored ones. "
    "Choose another agent, or use this one through the API."
)
EMPTY_PAGE = history.MessagePage([], has_older=False, has_newer=False)
AFTER_ALL_POSITIONS = 10**15
# Suggested openings for a newcomer, each with a follow-up question that only memory can answer.
SUGGESTIONS = {
    "I’m choosing between the Zephyr 14 and the Atlas 15 laptops.": "Which of these did I mention first?",
    "My sister Mira visits on Sunday. She is allergic to walnuts.": "What is Mira allergic to?",
    "Our standup moves to 9:45, and the demo is on Thursday.": "When is the demo?",
}


@page
@require_http_methods(["GET", "HEAD", "POST"])
def chat(request: HttpRequest, id: UUID | None = None) -> HttpResponseBase:
    """Show a conversation, or an empty one to begin with. A POST asks a question."""
    session = session_of(request, id) if id else None
    if request.method != "POST":
        return render_conversation(request, session)
    try:
        claim = _begin_turn(request, session)
    except ConvoError as error:
        return show_error(request, session, error)
    # A failed turn keeps its question and its error, and the page shows both.
    with suppress(ConvoError):
        start_or_wait(request, claim)
    return redirect(f"{reverse('conversation', args=[claim.session_id])}#end")


@page
@require_safe
def inspect(request: HttpRequest, id: UUID, number: int) -> HttpResponse:
    session = session_of(request, id)
    turn = history.get_turn(session, number)
    turn_account = build_prompt_view(context.replay(turn))
    return render_page(
        request,
        "convo/context.html",
        {"session": session, "turn": turn, "account": turn_account},
        section="chat",
    )


def start_or_wait(request: HttpRequest, claim: Claim) -> None:
    """Start the turn. The page's script then reads the reply as it comes; without it, wait for the reply."""
    if is_from_script(request):
        start_turn(request, claim)
    else:
        wait_for_result(request, claim)


def show_error(request: HttpRequest, session: Session | None, error: ConvoError) -> HttpResponseBase:
    if isinstance(error, TurnInProgress):
        error = TurnInProgress(WRITING, retry_after=error.retry_after)
    return page_error_response(request, error, lambda error: render_conversation(request, session, error))


def message_text(request: HttpRequest) -> str:
    text = form_text(request, "message")
    if "\0" in text:
        raise InvalidRequest("The message holds a NUL character, which no database stores.", param="message")
    return text


def render_conversation(
    request: HttpRequest, session: Session | None, error: ConvoError | None = None
) -> HttpResponse:
    unfinished = unfinished_turn(session) if session else None
    try:
        message_page = _page_of_messages(request, session)
    except ContentsExpired as text_gone:
        # A temporary chat has expired, so the page shows only this error.
        message_page, error = EMPTY_PAGE, text_gone
    exchange_list = build_exchanges(session, message_page.messages, unfinished) if session else []
    running_exchange = next((exchange for exchange in exchange_list if exchange.is_running), None)
    agent = (
        exchange_list[-1].turn.agent if exchange_list else session.agent if session else agents.default_name()
    )
    is_gone = isinstance(error, ContentsExpired)
    page_context = {
        "session": session,
        "gone": is_gone,
        "open": not is_gone and (session is None or session.state == Session.State.OPEN),
        "exchanges": exchange_list,
        "running": running_exchange,
        "seen": message_page,
        "agent": agent,
        "agents": agents.all_agents().values(),
        "who": agent_title(agent),
        "suggestions": SUGGESTIONS.items(),
        "follow_up": _follow_up_question(exchange_list),
        "error": error,
        "typed": request.POST.get("message", "") if error else "",
    }
    # Every page of a cleared conversation offers the undo, for as long as there is time.
    if session and (cleared_session := restorable_session(Session.objects.cleared_from(session))):
        page_context["undo"] = cleared_session
    status = error.status if error else 200
    return render_page(request, "convo/chat.html", page_context, section="chat", status=status)


def _begin_turn(request: HttpRequest, session: Session | None) -> Claim:
    text = message_text(request)
    files = [Upload(file.name or "", file.read()) for file in request.FILES.getlist("file")]
    if not (text or files):
        raise InvalidRequest("Write a message first.", param="message")
    question = [NewMessage.from_user(text, upload_parts(files))]
    agent = request.POST.get("agent", "")
    if session is None:
        options = {"storage": Session.Storage.EPHEMERAL} if request.POST.get("temporary") else {}
        session = turns.new_session(user_or_guest(request), ME, agent=agent, **options)
    if session.storage == Session.Storage.NONE:
        raise InvalidRequest(NOTHING_STORED, param="agent")
    return turns.begin(session, question, agent=agent)


def _page_of_messages(request: HttpRequest, session: Session | None) -> history.MessagePage:
    """Return the newest messages, or those before or around the position in the query string."""
    if session is None:
        return EMPTY_PAGE
    around, before = _position_param(request, "at"), _position_param(request, "before")
    if around is not None:
        before = around + PAGE_SIZE // 2
    if before is None:
        # The session's end may have moved since it was read, as a reply may have come.
        before = AFTER_ALL_POSITIONS
    return history.page(session, before=before, newest_first=False, size=PAGE_SIZE)


def _position_param(request: HttpRequest, name: str) -> int | None:
    try:
        return QueryParams(request.GET).integer(name)
    except InvalidRequest as error:
        raise NotFound(error.message) from error


def _follow_up_question(exchange_list: Sequence[Exchange]) -> str | None:
    """Return the follow-up question to a suggested opening, once that has its reply."""
    if len(exchange_list) != 1 or exchange_list[0].turn.status != Turn.Status.COMPLETE:
        return None
    question = exchange_list[0].question
    return SUGGESTIONS.get(question.content) if question else None
