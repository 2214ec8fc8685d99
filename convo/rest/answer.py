"""Replies to questions: as JSON or as events, new or replayed under their idempotency key."""

from collections.abc import Callable
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from convo.errors import ConvoError
from convo.http import sse
from convo.http.idempotency import idempotency_key, mark_replayed, replay_response, store_error
from convo.models import Session
from convo.turns import AlreadyProcessed, Claim, IdempotencyKey


def answer(
    request: Request, begin: Callable[[IdempotencyKey | None], Claim], data: dict[str, Any]
) -> HttpResponseBase:
    """Begin a turn and return its reply: as events when the body or Accept asks for them, else as JSON."""
    is_streamed = data["stream"] or request.accepted_renderer.media_type == sse.MEDIA_TYPE
    try:
        claim = begin(idempotency_key(request))
    except AlreadyProcessed as duplicate:
        turn = duplicate.row.turn
        if is_streamed and turn and turn.session.storage != Session.Storage.NONE:
            return mark_replayed(sse.replay(request._request, turn, after=-1))
        return replay_response(duplicate.row)
    except ConvoError as error:
        return store_error(request, error)
    cancel_on_disconnect = data.get("on_disconnect") == "cancel"
    if is_streamed:
        return sse.stream(request._request, claim, stop_when_left=cancel_on_disconnect)
    return Response(sse.answer(request._request, claim, stop_on_disconnect=cancel_on_disconnect))
