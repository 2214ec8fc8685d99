"""Replies of the REST API: as JSON, or as events that a client can follow and come back to."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring as encode_text
from typing import Any, ClassVar

from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from convo.errors import ConvoError, NotAuthenticated, TurnInterrupted
from convo.events import Delta
from convo.http.answer import EVENT_STREAM, Reply, answer
from convo.http.errors import envelope, headers, rest_response
from convo.http.idempotency import idempotency_key
from convo.http.representations import result_json, started_json, usage_json
from convo.turns import Claim, IdempotencyKey, Outcome

# Only these kinds of deltas are streamed; everything else comes with the last event.
_STREAMED_KINDS = {"message", "refusal"}


def answer_question(
    request: Request, begin: Callable[[IdempotencyKey | None], Claim], data: dict[str, Any]
) -> HttpResponseBase:
    """Begin a turn and return its reply: as events when the body or Accept asks for them, else as JSON."""
    is_streamed = data["stream"] or request.accepted_renderer.media_type == EVENT_STREAM
    stops = data.get("on_disconnect") == "cancel"
    return answer(
        request,
        idempotency_key(request),
        begin,
        lambda turn, _: RestReply(turn=turn, is_streamed=is_streamed, stops_on_disconnect=stops),
        rest_response,
    )


def frame(id: int | None, event: str, data: dict[str, Any]) -> bytes:
    """Return one event. Its data is one line of JSON, so no text of a model can end the event early."""
    json_line = json.dumps(data, cls=JSONEncoder, ensure_ascii=False)
    id_line = "" if id is None else f"id: {id}\n"
    return f"{id_line}event: {event}\ndata: {json_line}\n\n".encode()


@dataclass(kw_only=True)
class RestReply(Reply):
    """A reply as JSON, or its events after number `after`: turn.started, delta …, usage, turn.completed."""

    after: int = -1
    _delta_count: int = field(default=0, init=False)
    waits_for_model: ClassVar[bool] = False

    def whole(self, ending: Outcome) -> Response:
        if isinstance(ending, ConvoError):
            return rest_response(ending)
        json_result = result_json(self.turn.session_id, ending)
        if not (failure := ending.failure):
            return Response(json_result)
        json_failure = {"error": envelope(failure)["error"], **json_result}
        return Response(json_failure, status=failure.status, headers=headers(failure))

    def failure(self, error: ConvoError) -> Response:
        return rest_response(error)

    async def first_events(self) -> bytes:
        started = {"session": str(self.turn.session_id), "turn": started_json(self.turn)}
        return frame(0, "turn.started", started) if self.after < 0 else b""

    def delta_events(self, deltas: Sequence[Delta]) -> bytes:
        first_id = self._delta_count + 1
        self._delta_count += len(deltas)
        events = (
            # The same bytes as `frame` makes, in a third of the time.
            f'id: {id}\nevent: delta\ndata: {{"text": {encode_text(delta.text)}}}\n\n'
            for id, delta in enumerate(deltas, first_id)
            if id > self.after and delta.kind in _STREAMED_KINDS
        )
        return "".join(events).encode()

    def last_events(self, ending: Outcome) -> bytes:
        return b"".join(self._last_frames(ending))

    def access_error(self, error: NotAuthenticated) -> bytes:
        # Without an id, a client that reconnects continues after the last event of the turn.
        return frame(None, "error", _error_json(error))

    def _last_frames(self, ending: Outcome) -> Iterator[bytes]:
        for id, (event, data) in enumerate(self._ending_events(ending), self._delta_count + 1):
            # A reader may have received more than was saved before the process died, and gets this anyway.
            is_interrupted = event == "error" and data["error"]["code"] == TurnInterrupted.code
            if id > self.after or is_interrupted:
                yield frame(max(id, self.after + 1) if is_interrupted else id, event, data)

    def _ending_events(self, ending: Outcome) -> list[tuple[str, dict[str, Any]]]:
        if isinstance(ending, ConvoError):
            return [("error", _error_json(ending))]
        json_result = result_json(self.turn.session_id, ending)
        if failure := ending.failure:
            return [("error", {**_error_json(failure), **json_result})]
        return [("usage", usage_json(ending.turn)), ("turn.completed", json_result)]


def _error_json(error: ConvoError) -> dict[str, Any]:
    return {**envelope(error), "retryable": error.retryable, "retry_after": error.retry_after}
