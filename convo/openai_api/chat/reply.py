"""Reply with a chat completion: whole or streamed, new or replayed under an idempotency key."""

from collections.abc import AsyncIterator

from asgiref.sync import async_to_sync
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from convo import database, turns
from convo.errors import ConvoError, IdempotencyKeyInUse, ResultDeleted
from convo.http import sse
from convo.http.credentials import Credentials
from convo.http.idempotency import KEY_HEADER, mark_replayed, replay_response
from convo.models import IdempotencyRecord, Session, Turn, TurnRequest
from convo.openai_api import ids
from convo.openai_api.body import Body
from convo.openai_api.chat.frames import completion_frames, completion_json
from convo.openai_api.chat.request import ChatRequest, includes_usage
from convo.openai_api.responses.reply import mark_question_stored, raise_early_failure
from convo.openai_api.view import error_response
from convo.turns import Claim, TurnResult

SESSION_HEADER = "X-Convo-Session"


def answer(
    request: Request, claim: Claim, chat_request: ChatRequest, *, begins_session: bool
) -> HttpResponseBase:
    """Reply to a claimed turn. With `begins_session`, tell the client not to retry it: it would begin two."""
    try:
        return _with_session_header(_start_and_reply(request, claim, chat_request), claim.turn)
    except ConvoError as error:
        error.has_stored_input = begins_session
        response = error_response(error)
        if begins_session:
            response["x-should-retry"] = "false"
        return _with_session_header(response, claim.turn)


def replay(request: Request, row: IdempotencyRecord, body: Body) -> HttpResponseBase:
    """Replay the response that the same request got before."""
    turn = row.turn
    turn_request = TurnRequest.objects.filter(turn=turn).first() if turn else None
    if turn is None or row.status == ResultDeleted.status:
        return replay_response(row)
    if turn_request is None:
        raise ResultDeleted(
            "This response was not stored, so it can't be replayed. Use a new Idempotency-Key."
        )
    if body.boolean("stream"):
        credentials = Credentials(request._request)
        chunks = _follow(turn, _model_name(turn_request), credentials, include_usage=includes_usage(body))
        response = mark_replayed(_with_session_header(sse.event_stream_response(chunks), turn))
        database.close_connections()
        return response
    if not turn.has_ended:
        raise IdempotencyKeyInUse(param=KEY_HEADER)
    return mark_replayed(
        _with_session_header(_completion_response(turns.result_of(turn), _model_name(turn_request)), turn)
    )


def _start_and_reply(request: Request, claim: Claim, chat_request: ChatRequest) -> HttpResponseBase:
    """Start the turn and reply. A client that disconnects stops the turn: clients have no other way."""
    log, credentials = sse.start_turn(request._request, claim), Credentials(request._request)
    async_to_sync(sse.wait_or_cancel)(log.wait_until_begun(), log, credentials, stop_when_left=True)
    raise_early_failure(log)
    if chat_request.stream:
        chunks = completion_frames(
            claim.turn, chat_request.model, log, credentials, include_usage=chat_request.include_usage
        )
        return sse.event_stream_response(sse.cancel_on_disconnect(chunks, log))
    ending = async_to_sync(sse.wait_or_cancel)(log.wait_until_ended(), log, credentials, stop_when_left=True)
    if isinstance(ending, ConvoError):
        raise ending
    return Response(completion_json(ending, chat_request.model))


def _completion_response(result: TurnResult, model: str) -> Response:
    try:
        return Response(completion_json(result, model))
    except ConvoError as error:
        return error_response(mark_question_stored(error))


async def _follow(
    turn: Turn, model: str, credentials: Credentials, *, include_usage: bool
) -> AsyncIterator[bytes]:
    log = await turns.follow(turn)
    async for chunk in completion_frames(turn, model, log, credentials, include_usage=include_usage):
        yield chunk


def _with_session_header(response: HttpResponseBase, turn: Turn) -> HttpResponseBase:
    if turn.session.kind == Session.Kind.CONVERSATION:
        response[SESSION_HEADER] = ids.conversation_id(turn.session)
    return response


def _model_name(turn_request: TurnRequest) -> str:
    return str(turn_request.params["model"])
