"""Answering with a turn: whole or streamed, new or replayed under its key."""

from collections.abc import Callable
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from convo.errors import ConvoError
from convo.http import sse
from convo.http.once import idempotency_key, marked, refused, replayed
from convo.turns import Claim, Done, Key


def answer(request: Request, begin: Callable[[Key | None], Claim], given: dict[str, Any]) -> HttpResponseBase:
    """The answer to the turn that `begin` claims: as events when the body or the Accept header says so."""
    streamed = given["stream"] or request.accepted_renderer.media_type == sse.MEDIA_TYPE
    try:
        claim = begin(idempotency_key(request))
    except Done as done:
        if streamed and done.row.turn:
            return marked(sse.replay(done.row.turn, after=-1))
        return replayed(done.row)
    except ConvoError as error:
        return refused(request, error)
    stops = given.get("on_disconnect") == "cancel"
    if streamed:
        return sse.stream(request._request, claim, stop_when_left=stops)
    return Response(sse.answer(request._request, claim, stop_when_left=stops))
