"""Reply with a response: whole, as events, or in the background."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from asgiref.sync import async_to_sync
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from convo import database, turns
from convo.errors import ConvoError, IdempotencyKeyInUse, NotAuthenticated, ResultDeleted
from convo.http import sse
from convo.http.credentials import Credentials
from convo.http.idempotency import KEY_HEADER, mark_replayed, replay_response, store_error_by_key
from convo.models import IdempotencyRecord, Message, Session, Turn, TurnRequest
from convo.openai_api import ids
from convo.openai_api.items import item_json
from convo.openai_api.responses.auto_compaction import leading_compactions
from convo.openai_api.responses.serialize import response_json
from convo.openai_api.responses.stream_events import Event, ResponseEvents, encode_event, events_after
from convo.openai_api.view import error_response
from convo.turns import AlreadyProcessed, Claim, IdempotencyKey, TurnLog, TurnResult

# Request fields that the model server gets under other names.
_UPSTREAM_NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}


def answer(
    request: Request,
    key: IdempotencyKey | None,
    begin: Callable[[IdempotencyKey | None], Claim],
    *,
    stream: bool,
) -> HttpResponseBase:
    """Reply to the turn that `begin` claims, or replay the response that the same key got before."""
    try:
        claim = begin(key)
    except AlreadyProcessed as processed:
        return _replay_by_key(request, processed.row, stream=stream)
    except ConvoError as error:
        return refuse(key, error)
    assert claim.request  # every turn of this surface has a request row
    background = claim.request.background
    log, credentials = sse.start_turn(request._request, claim), Credentials(request._request)
    if background and not stream:
        # The turn may run already, but OpenAI's clients expect `queued` first, as in the events.
        return Response({**current_response_json(claim.turn, claim.request, []), "status": "queued"})
    # A response in the background goes on when its reader has left. Any other one is stopped, here and below.
    async_to_sync(sse.wait_or_cancel)(log.wait_until_begun(), log, credentials, stop_when_left=not background)
    raise_early_failure(log, _UPSTREAM_NAMES)
    if not stream:
        ending = async_to_sync(sse.wait_or_cancel)(
            log.wait_until_ended(), log, credentials, stop_when_left=True
        )
        return Response(_final_json(claim.turn, claim.request, ending))
    events = response_frames(claim.turn, claim.request, log, credentials)
    return sse.event_stream_response(events if background else sse.cancel_on_disconnect(events, log))


def replay(request: Request, turn: Turn, turn_request: TurnRequest, *, after: int = -1) -> HttpResponseBase:
    """Stream the response's events after number `after`, wherever the response is or was written."""
    database.close_connections()
    return sse.event_stream_response(_follow(turn, turn_request, Credentials(request._request), after))


def current_response_json(
    turn: Turn, turn_request: TurnRequest, messages: Sequence[Message]
) -> dict[str, Any]:
    """Render the response as it is now."""
    session = turn.session
    is_conversation = session.kind == Session.Kind.CONVERSATION
    conversation = ids.conversation_id(session) if is_conversation else None
    return response_json(turn, turn_request, messages, conversation=conversation)


async def response_frames(
    turn: Turn, turn_request: TurnRequest, log: TurnLog, credentials: Credentials, *, after: int = -1
) -> AsyncIterator[bytes]:
    """Yield the response's events after number `after`, as they come.

    All of them are made, because that is what numbers them. `turn` has its session with it: this code is
    async and can't query the database for it.
    """
    response_events = ResponseEvents(turn.key, current_response_json(turn, turn_request, []))
    compactions = await database.run(leading_compactions, turn, turn_request)
    yield _encode(events_after(response_events.begin([item_json(row) for row in compactions]), after))
    try:
        async for batch in sse.read(log, credentials):
            if not batch:
                yield sse.HEARTBEAT
                continue
            yield _encode(
                events_after((event for delta in batch for event in response_events.add_delta(delta)), after)
            )
    except NotAuthenticated as error:
        yield encode_event(response_events.refuse(error, after))
        return
    ending = await turns.wait_for_ending(turn, log)
    yield _encode(events_after(response_events.end(_final_json(turn, turn_request, ending)), after))


def _encode(events: Iterable[Event]) -> bytes:
    return b"".join(map(encode_event, events))


async def _follow(
    turn: Turn, turn_request: TurnRequest, credentials: Credentials, after: int
) -> AsyncIterator[bytes]:
    log = await turns.follow(turn)
    async for chunk in response_frames(turn, turn_request, log, credentials, after=after):
        yield chunk


def raise_early_failure(log: TurnLog, names: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise the failure if the model server never began to reply: no headers have been sent yet.

    `names` maps field names of the model server's error to those of the caller's request.
    """
    if log.ending is None or log.deltas:
        return
    failure = log.ending if isinstance(log.ending, ConvoError) else log.ending.failure
    if failure:
        failure.v1_param = names.get(failure.v1_param or "", failure.v1_param)
        raise mark_question_stored(failure)


def _final_json(turn: Turn, turn_request: TurnRequest, ending: TurnResult | ConvoError) -> dict[str, Any]:
    """Render the response at its end. If its turn has been deleted meanwhile, the response has failed."""
    if isinstance(ending, TurnResult):
        ending.turn.session = turn.session
        return current_response_json(ending.turn, turn_request, ending.messages)
    turn.status, turn.error = Turn.Status.FAILED, {"code": ending.code, "message": ending.message}
    return current_response_json(turn, turn_request, [])


def mark_question_stored(error: ConvoError) -> ConvoError:
    """Mark this failure of a turn: its question is stored, so the same request would store it twice."""
    error.has_stored_input = True
    return error


def _replay_by_key(request: Request, row: IdempotencyRecord, *, stream: bool) -> HttpResponseBase:
    """Reply as to the earlier request of the same key: with its error, or with its response as it is now.

    Raise ResultDeleted where there is no response any more, and IdempotencyKeyInUse while it is not whole.
    """
    if row.turn is None or row.status == ResultDeleted.status:
        return replay_response(row)
    turn_request = TurnRequest.objects.select_related("turn__session").filter(turn=row.turn).first()
    if turn_request is None:
        # With storage `none`, no request is stored either.
        raise ResultDeleted(
            "This response was not stored, so it can't be replayed. Use a new Idempotency-Key.",
            param=KEY_HEADER,
        )
    if not turn_request.params:
        # Every request has parameters; deleting the response removes them.
        raise ResultDeleted(param=KEY_HEADER)
    turn = turn_request.turn
    if stream:
        return mark_replayed(replay(request, turn, turn_request))
    if not turn.has_ended and not turn_request.background:
        raise IdempotencyKeyInUse(param=KEY_HEADER)
    return mark_replayed(Response(current_response_json(turn, turn_request, turns.result_of(turn).messages)))


def refuse(key: IdempotencyKey | None, error: ConvoError) -> Response:
    """Raise the error or, under a key, store and return it as the response if it would be the same again."""
    return store_error_by_key(key, error, error_response)
