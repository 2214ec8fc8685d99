"""Answering with a chat completion: whole or in chunks, new or once more under its key."""

from collections.abc import AsyncIterator

from asgiref.sync import async_to_sync
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from convo import database, turns
from convo.errors import ConvoError, Gone, KeyInFlight
from convo.http import sse
from convo.http.once import NAME, marked, replayed
from convo.http.openai_api import ids
from convo.http.openai_api.body import Body
from convo.http.openai_api.chat.frames import completion_json, frames
from convo.http.openai_api.chat.request import ChatRequest, includes_usage
from convo.http.openai_api.responses.answering import check_begun, passed_on
from convo.http.openai_api.view import refusal
from convo.models import Asked, Idempotency, Session, Turn
from convo.turns import Claim, Result

SESSION = "X-Convo-Session"


def answer(request: Request, claim: Claim, want: ChatRequest, *, once: bool) -> HttpResponseBase:
    """The answer to a claimed turn; one that is to be made `once` is not asked again by the client itself."""
    try:
        return _in_session(_answer(request, claim, want), claim.turn)
    except ConvoError as error:
        error.kept = once
        response = refusal(error)
        if once:
            response["x-should-retry"] = "false"
        return _in_session(response, claim.turn)


def again(row: Idempotency, body: Body) -> HttpResponseBase:
    """The answer that the same request got before."""
    turn = row.turn
    asked = Asked.objects.filter(turn=turn).first() if turn else None
    if turn is None or row.status == Gone.status:
        return replayed(row)
    if asked is None:
        raise Gone("What was answered under this key was not to be stored.")
    if body.flag("stream"):
        told = _followed(turn, _model(asked), include_usage=includes_usage(body))
        response = marked(_in_session(sse.respond(told), turn))
        database.release()
        return response
    if not turn.ended:
        raise KeyInFlight(param=NAME, retry_after=1)
    return marked(_in_session(_told(turns.result(turn), _model(asked)), turn))


def _answer(request: Request, claim: Claim, want: ChatRequest) -> HttpResponseBase:
    """Start the turn and answer with it. A reader that leaves stops it, for that is how clients stop."""
    log = sse.start(request._request, claim)
    async_to_sync(sse.heard)(log.begun(), log, stop_when_left=True)
    check_begun(log)
    if want.stream:
        told = frames(claim.turn, want.model, log, include_usage=want.include_usage)
        return sse.respond(sse.stopping(told, log))
    ending = async_to_sync(sse.heard)(log.ended(), log, stop_when_left=True)
    if isinstance(ending, ConvoError):
        raise ending
    return Response(completion_json(ending, want.model))


def _told(result: Result, model: str) -> Response:
    try:
        return Response(completion_json(result, model))
    except ConvoError as error:
        return refusal(passed_on(error))


async def _followed(turn: Turn, model: str, *, include_usage: bool) -> AsyncIterator[bytes]:
    async for told in frames(turn, model, await turns.follow(turn), include_usage=include_usage):
        yield told


def _in_session(response: HttpResponseBase, turn: Turn) -> HttpResponseBase:
    """The answer, with the name of the session that it stands in."""
    if turn.session.kind == Session.Kind.CONVERSATION:
        response[SESSION] = ids.conversation_id(turn.session)
    return response


def _model(asked: Asked) -> str:
    return str(asked.params["model"])
