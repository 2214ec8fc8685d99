"""/v1/responses: turns, in the form of OpenAI's Responses API."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from convo import context, history, turns
from convo.errors import InvalidRequest, NotFound, PreviousResponseNotFound
from convo.history import NewMessage
from convo.http.answer import answer, follow
from convo.http.auth import person_in_header
from convo.http.idempotency import idempotency_key
from convo.http.openapi import ANY_OBJECT
from convo.models import NOBODY, Session, Turn, TurnRequest
from convo.openai_api import schema
from convo.openai_api.items import item_json
from convo.openai_api.pagination import cut_page, read_page_query
from convo.openai_api.responses import response_input
from convo.openai_api.responses.auto_compaction import compaction_items, with_unchanged_check
from convo.openai_api.responses.lookup import StoredResponseView
from convo.openai_api.responses.reply import PARAM_NAMES, ResponseReply
from convo.openai_api.responses.request import NewResponse, ResponseRequest, read_response_request
from convo.openai_api.view import error_response, person_of, stored_request
from convo.turns import Claim, IdempotencyKey, OnBusy


class ResponsesView(StoredResponseView):
    """Create a response."""

    @schema.operation(
        "createResponse", schema.RESPONSE, request=NewResponse, writes=True, asks=True, streams=True
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Answer an input: in a conversation, after another response, or by itself."""
        response_request, person = read_response_request(self.body()), person_of(request, self.body())
        body = response_request.body
        question = response_input.read_input(body.input, request.user, self.person_refs(person))

        def reply_of(turn: Turn, turn_request: TurnRequest | None) -> ResponseReply:
            turn_request = turn_request or stored_request(turn)
            return ResponseReply(turn=turn, turn_request=turn_request, is_streamed=bool(body.stream))

        return answer(
            request,
            idempotency_key(request, person or person_in_header(request)),
            lambda key: self._begin(response_request, question, person, key),
            reply_of,
            partial(error_response, param_names=PARAM_NAMES),
        )

    def _begin(
        self,
        response_request: ResponseRequest,
        question: Sequence[NewMessage],
        person: str | None,
        key: IdempotencyKey | None,
    ) -> Claim:
        body, is_stored = response_request.body, response_request.turn_request.is_stored
        options: dict[str, Any] = {
            "agent": response_request.agent,
            "request": response_request.turn_request,
            "key": key,
            "guard": response_input.fits_session_check(question),
        }
        if body.previous_response_id:
            previous = self.previous_turn(body.previous_response_id, person)
            if response_request.compact_threshold:
                last_position = self.last_position(previous)
                compactions = compaction_items(response_request, question, previous.session, last_position)
                question = [*compactions, *question]
            try:
                return turns.continue_from(previous, question, store=is_stored, **options)
            except NotFound as error:
                # Items of a conversation can be deleted one by one; none of this response's items are left.
                raise PreviousResponseNotFound(
                    f"The messages of response '{body.previous_response_id}' have been deleted.",
                    param="previous_response_id",
                ) from error
        if response_request.conversation_id:
            session = self.conversation(response_request.conversation_id, person, param="conversation")
            question = response_input.without_repetitions(session, question)
            options["guard"] = response_input.fits_session_check(question)
            if compactions := compaction_items(response_request, question, session, session.last_position):
                question = [*compactions, *question]
                options["guard"] = with_unchanged_check(session, options["guard"])
            return turns.begin(session, question, on_busy=body.on_busy or OnBusy.REJECT, **options)
        storage = Session.Storage.PERSISTENT if is_stored else Session.Storage.NONE
        chain = turns.new_chain(self.request.user, person or NOBODY, storage=storage)
        return turns.begin(chain, question, **options)


class ResponseView(StoredResponseView):
    """One response."""

    @schema.operation(
        "retrieveResponse",
        schema.RESPONSE,
        parameters=[schema.INCLUDE_PARAMETER, *schema.STREAM_PARAMETERS],
        streams=True,
    )
    def get(self, request: Request, id: str) -> HttpResponseBase:
        """Return the response as it is now or, with `stream=true`, its events after `starting_after`."""
        turn_request = self.get_turn_request(id)
        after = self.params.integer("starting_after")
        if self.params.boolean("stream"):
            return follow(request._request, _reply(turn_request, after=-1 if after is None else after))
        return _current_response(turn_request)

    @schema.operation("deleteResponse", schema.DELETED, writes=True)
    def delete(self, request: Request, id: str) -> Response:
        """Delete the response. Its items stay in a conversation until they are deleted there."""

        turn_request = self.find_turn_request(id)
        if turn_request and not turn_request.turn.has_ended:
            turns.cancel(turn_request.turn)

        def delete() -> Response:
            turns.delete_response(self.get_turn_request(id).turn)
            return Response({"id": id, "object": "response", "deleted": True})

        return self.idempotent(delete)


class CancelView(StoredResponseView):
    """Cancel a response."""

    @schema.operation("cancelResponse", schema.RESPONSE, request=None, writes=True)
    def post(self, request: Request, id: str) -> Response:
        """Stop a background response, wherever it is written. An ended one stays as it is."""
        turn_request = self.get_turn_request(id)
        if not turn_request.background:
            raise InvalidRequest(
                "Only a response created with `background: true` can be cancelled. "
                "To stop any other, close the connection.",
                param="response_id",
            )
        turns.cancel(turn_request.turn)
        return _current_response(self.get_turn_request(id))


class InputItemsView(StoredResponseView):
    """The input of a response."""

    @schema.operation(
        "listInputItems", schema.ITEMS, parameters=[*schema.PAGE_PARAMETERS, schema.INCLUDE_PARAMETER]
    )
    def get(self, request: Request, id: str) -> Response:
        """List the items of its input, newest first unless `order=asc`."""
        turn = self.get_turn_request(id).turn
        rows = history.question_of(turn)
        return Response(
            cut_page([item_json(row) for row in history.with_inline_data(rows)], read_page_query(self.params))
        )


class ContextView(StoredResponseView):
    """The prompt behind a response."""

    @schema.operation("retrieveResponseContext", ANY_OBJECT)
    def get(self, request: Request, id: str) -> Response:
        """Return what the model saw for this response, part by part. OpenAI's own API has no such call."""
        return Response(context.replay(self.get_turn_request(id).turn))


def _current_response(turn_request: TurnRequest) -> Response:
    return _reply(turn_request).whole(turns.result_of(turn_request.turn))


def _reply(turn_request: TurnRequest, **options: Any) -> ResponseReply:
    return ResponseReply(turn=turn_request.turn, turn_request=turn_request, **options)
