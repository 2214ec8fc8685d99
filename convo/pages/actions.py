"""Actions on a conversation, other than asking. Each is the target of a form and redirects to the page."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec
from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from convo import history, turns
from convo.errors import ConvoError, InvalidRequest
from convo.models import Session
from convo.pages.chat import message_text, show_error, start_or_wait
from convo.pages.page import form_text, page, session_of

P = ParamSpec("P")
ConversationAction = Callable[Concatenate[HttpRequest, Session, P], HttpResponseBase]
MAX_NOTE_LENGTH = 2000


def conversation_action(view: ConversationAction[P]) -> Callable[..., HttpResponseBase]:
    """Decorate the target of a form: pass it the visitor's conversation, and show an error on its page."""

    @page
    @require_POST
    @wraps(view)
    def wrapper(request: HttpRequest, /, id: UUID, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        session = session_of(request, id)
        try:
            return view(request, session, *args, **kwargs)
        except ConvoError as error:
            return show_error(request, session, error)

    return wrapper


@conversation_action
def stop(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    """Stop the reply that is being written, and keep what there is of it."""
    turns.cancel(history.get_turn(session, number))
    return _redirect_to_turn(session, number)


@conversation_action
def regenerate(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    """Generate another answer to this turn's question, as an alternative to the present one."""
    claim = turns.regenerate(session, number, agent=request.POST.get("agent", ""))
    start_or_wait(request, claim)
    return _redirect_to_turn(session, claim.turn.number)


@conversation_action
def edit(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    question = history.edited_question(history.get_turn(session, number), message_text(request))
    if not (question[0].content or question[0].item):
        raise InvalidRequest("Write a message first.", param="message")
    claim = turns.regenerate(session, number, question, agent=request.POST.get("agent", ""))
    start_or_wait(request, claim)
    return _redirect_to_turn(session, claim.turn.number)


@conversation_action
def choose(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    """Show this turn, and what came after it, in place of its alternatives."""
    turns.activate(session, number)
    return _redirect_to_turn(session, number)


@conversation_action
def feedback(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    turn, value = history.get_turn(session, number), request.POST.get("value", "")
    if value == "none":
        turns.delete_feedback(turn)
    elif value in ("up", "down"):
        turns.save_feedback(turn, value, _read_note(request))
    else:
        raise InvalidRequest("`value` is up, down or none.", param="value")
    return _redirect_to_turn(session, number)


@conversation_action
def fork(request: HttpRequest, session: Session, position: int) -> HttpResponseBase:
    """Start a new conversation with a copy of everything up to this position."""
    new_session = history.fork(session, position)
    return redirect(f"{reverse('conversation', args=[new_session.pk])}#end")


@conversation_action
def clear(request: HttpRequest, session: Session) -> HttpResponseBase:
    """Delete all messages and keep the conversation; the page that follows offers to undo that."""
    turns.clear(session)
    return redirect("conversation", session.pk)


def _read_note(request: HttpRequest) -> str:
    note = form_text(request, "note")
    if len(note) > MAX_NOTE_LENGTH or "\0" in note:
        raise InvalidRequest(f"A note takes up to {MAX_NOTE_LENGTH} characters of text.", param="note")
    return note


def _redirect_to_turn(session: Session, number: int) -> HttpResponseBase:
    return redirect(f"{reverse('conversation', args=[session.pk])}#turn-{number}")
