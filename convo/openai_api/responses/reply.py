"""Replies in the form of OpenAI's Response objects: whole, as events, or in the background."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rest_framework.response import Response

from convo import database
from convo.errors import ConvoError, NotAuthenticated
from convo.events import Delta
from convo.http.answer import Reply
from convo.models import Message, Session, Turn, TurnRequest
from convo.openai_api import ids
from convo.openai_api.items import item_json
from convo.openai_api.responses.auto_compaction import leading_compactions
from convo.openai_api.responses.serialize import response_json
from convo.openai_api.responses.stream_events import Event, ResponseEvents, encode_event, events_after
from convo.openai_api.view import error_response
from convo.turns import Outcome, TurnResult

# Request fields that the core or the model server knows by other names.
PARAM_NAMES = {
    "message": "input",
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}


@dataclass(kw_only=True)
class ResponseReply(Reply):
    """A Response object, or its events after number `after`.

    All of the events are made, because that is what numbers them. The turn has its session with it: async
    code can't query the database for it.
    """

    turn_request: TurnRequest
    after: int = -1

    def __post_init__(self) -> None:
        self.is_background = self.turn_request.background
        # A response in the background goes on when its reader has left. Any other one is stopped.
        self.stops_on_disconnect = not self.is_background

    def queued(self) -> Response:
        # The turn may run already, but OpenAI's clients expect `queued` first, as in the events.
        return Response({**self._json(self.turn), "status": "queued"})

    def whole(self, ending: Outcome) -> Response:
        """Render the response as it is now."""
        return Response(self._final_json(ending))

    def failure(self, error: ConvoError) -> Response:
        return error_response(error, param_names=PARAM_NAMES, has_stored_input=True)

    async def first_events(self) -> bytes:
        self._events = ResponseEvents(self.turn.key, self._json(self.turn))
        # Only a request with `context_management` can have them; others need no thread for the database.
        may_have_compactions = bool(self.turn_request.params.get("context_management"))
        compactions = await database.run(leading_compactions, self.turn) if may_have_compactions else []
        return self._encode(self._events.begin([item_json(row) for row in compactions]))

    def delta_events(self, deltas: Sequence[Delta]) -> bytes:
        return self._encode(event for delta in deltas for event in self._events.add_delta(delta))

    def last_events(self, ending: Outcome) -> bytes:
        return self._encode(self._events.end(self._final_json(ending)))

    def access_error(self, error: NotAuthenticated) -> bytes:
        return encode_event(self._events.refuse(error, self.after))

    def _encode(self, events: Iterable[Event]) -> bytes:
        return b"".join(map(encode_event, events_after(events, self.after)))

    def _final_json(self, ending: Outcome) -> dict[str, Any]:
        """Render the response at its end. If its turn has been deleted meanwhile, the response has failed."""
        if isinstance(ending, TurnResult):
            return self._json(ending.turn, ending.messages)
        self.turn.status = Turn.Status.FAILED
        self.turn.error = {"code": ending.code, "message": ending.message}
        return self._json(self.turn)

    def _json(self, turn: Turn, messages: Sequence[Message] = ()) -> dict[str, Any]:
        session = self.turn.session
        is_conversation = session.kind == Session.Kind.CONVERSATION
        conversation = ids.conversation_id(session) if is_conversation else None
        return response_json(turn, self.turn_request, messages, conversation=conversation)
