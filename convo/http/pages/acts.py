"""What can be done with a conversation, beside asking: each act is one form and leads back to the page."""

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
from convo.http.pages.chat import answer, refuse, typed
from convo.http.pages.door import page, session_of, written
from convo.models import Session

P = ParamSpec("P")
Act = Callable[Concatenate[HttpRequest, Session, P], HttpResponseBase]
LONGEST_NOTE = 2000


def act(does: Act[P]) -> Callable[..., HttpResponseBase]:
    """A form's target, given the visitor's own conversation; a refusal is told on its page."""

    @page
    @require_POST
    @wraps(does)
    def done(request: HttpRequest, /, id: UUID, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        session = session_of(request, id)
        try:
            return does(request, session, *args, **kwargs)
        except ConvoError as error:
            return refuse(request, session, error)

    return done


@act
def stop(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    """Stop the reply that is being written; what there is of it stays."""
    turns.cancel(history.turn_of(session, number))
    return _back(session, number)


@act
def again(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    """Another answer to this turn's question, beside the one that there is."""
    claim = turns.again(session, number)
    answer(request, claim)
    return _back(session, claim.turn.number)


@act
def edit(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    """Another question in this turn's place."""
    asked = history.reworded(history.turn_of(session, number), typed(request))
    if not (asked[0].content or asked[0].item):
        raise InvalidRequest("Write a message first.", param="message")
    claim = turns.again(session, number, asked)
    answer(request, claim)
    return _back(session, claim.turn.number)


@act
def choose(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    """Show this turn, and what came after it, in place of its alternatives."""
    turns.activate(session, number)
    return _back(session, number)


@act
def feedback(request: HttpRequest, session: Session, number: int) -> HttpResponseBase:
    """A thumb up or down, with a note or without one, or none any more."""
    turn, value = history.turn_of(session, number), request.POST.get("value", "")
    if value == "none":
        turns.take_feedback_back(turn)
    elif value in ("up", "down"):
        turns.give_feedback(turn, value, _note(request))
    else:
        raise InvalidRequest("`value` is up, down or none.", param="value")
    return _back(session, number)


@act
def fork(request: HttpRequest, session: Session, position: int) -> HttpResponseBase:
    """A conversation of its own that begins with all that is shown up to here."""
    made = history.fork(session, position)
    return redirect(f"{reverse('conversation', args=[made.pk])}#end")


@act
def clear(request: HttpRequest, session: Session) -> HttpResponseBase:
    """Forget the messages and keep the conversation."""
    history.clear(session.pk)
    return redirect("conversation", session.pk)


def _note(request: HttpRequest) -> str:
    note = written(request, "note")
    if len(note) > LONGEST_NOTE or "\0" in note:
        raise InvalidRequest(f"A note takes up to {LONGEST_NOTE} characters of text.", param="note")
    return note


def _back(session: Session, number: int) -> HttpResponseBase:
    return redirect(f"{reverse('conversation', args=[session.pk])}#turn-{number}")
