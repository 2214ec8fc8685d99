"""/v1/responses: turns, as OpenAI's clients speak of them."""

from collections.abc import Sequence
from typing import Any

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import context, history, turns
from convo.errors import InvalidRequest, NotFound, PreviousResponseNotFound
from convo.history import Draft
from convo.http.auth import header_person
from convo.http.once import idempotency_key
from convo.http.openai_api import schema
from convo.http.openai_api.items import item_json
from convo.http.openai_api.paging import asked as page_asked
from convo.http.openai_api.paging import page_of
from convo.http.openai_api.responses import input
from convo.http.openai_api.responses.answering import answer, replay, shown
from convo.http.openai_api.responses.compacting import compaction, unchanged
from convo.http.openai_api.responses.stored import StoredResponses
from convo.http.openai_api.responses.wanted import Wanted, wanted
from convo.http.openai_api.view import flag, person_of, whole
from convo.models import NOBODY, Asked, Session
from convo.turns import Claim, Key


class ResponsesView(StoredResponses):
    """Ask for a response."""

    @extend_schema(
        operation_id="createResponse",
        request=schema.NEW_RESPONSE,
        responses=schema.answers(schema.RESPONSE, writes=True, asks=True, streams=True),
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Answer an input, in a conversation, after another response, or by itself."""
        body = self.body()
        want, person = wanted(body), person_of(request, body)
        question = input.read(body.given.get("input"), request.user, person)
        key = idempotency_key(request, person or header_person(request))
        return answer(request, key, lambda key: self._begin(want, question, person, key), stream=want.stream)

    def _begin(self, want: Wanted, question: Sequence[Draft], person: str | None, key: Key | None) -> Claim:
        options: dict[str, Any] = {
            "agent": want.agent,
            "asked": want.asked,
            "key": key,
            "check": input.check_against(question),
        }
        if want.previous:
            previous = self.previous(want.previous, person)
            session, upto = self.place(want, person)
            question = [*compaction(want, question, session, upto), *question]
            try:
                return turns.go_on(previous, question, stored=want.store, **options)
            except NotFound as error:
                # Of a conversation its items can be deleted one by one.
                raise PreviousResponseNotFound(
                    f"What was said in response '{want.previous}' has been deleted.",
                    param="previous_response_id",
                ) from error
        if want.conversation:
            session = self.conversation(want.conversation, person, param="conversation")
            question = input.unrepeated(session, question)
            options["check"] = input.check_against(question)
            if short := compaction(want, question, session, session.last_position):
                question = [*short, *question]
                options["check"] = unchanged(session, options["check"])
            return turns.begin(session, question, on_busy=want.on_busy, **options)
        storage = Session.Storage.KEPT if want.store else Session.Storage.NONE
        chain = turns.new_chain(self.request.user, person or NOBODY, storage=storage)
        return turns.begin(chain, question, **options)


class ResponseView(StoredResponses):
    """One response."""

    @extend_schema(
        operation_id="retrieveResponse",
        parameters=[schema.INCLUDE, *schema.STREAMED],
        responses=schema.answers(schema.RESPONSE, streams=True),
    )
    def get(self, request: Request, id: str) -> HttpResponseBase:
        """The response as it is now, or with `stream=true` its events behind `starting_after`."""
        asked = self.response_of(id)
        after = whole(request, "starting_after")
        if flag(request, "stream"):
            return replay(asked.turn, asked, after=-1 if after is None else after)
        return Response(_shown(asked))

    @extend_schema(
        operation_id="deleteResponse", responses=schema.answers(schema.DELETED_RESPONSE, writes=True)
    )
    def delete(self, request: Request, id: str) -> Response:
        """Delete it; what a conversation holds of it stays there until its items are deleted."""

        asked = self.find(id)
        if asked and not asked.turn.ended:
            turns.cancel(asked.turn)

        def delete() -> Response:
            turns.take_back(self.response_of(id).turn)
            return Response({"id": id, "object": "response", "deleted": True})

        return self.once(delete)


class CancelView(StoredResponses):
    """Stop a response."""

    @extend_schema(
        operation_id="cancelResponse",
        request=None,
        responses=schema.answers(schema.RESPONSE, writes=True),
    )
    def post(self, request: Request, id: str) -> Response:
        """Stop a background response, wherever it is written; an ended one stays as it is."""
        asked = self.response_of(id)
        if not asked.background:
            raise InvalidRequest(
                "Only a response that was made with `background: true` can be cancelled. "
                "Close the connection to stop another one.",
                param="response_id",
            )
        turns.cancel(asked.turn)
        return Response(_shown(self.response_of(id)))


class InputItemsView(StoredResponses):
    """What a response was asked with."""

    @extend_schema(
        operation_id="listInputItems",
        parameters=[*schema.PAGE, schema.INCLUDE],
        responses=schema.answers(schema.ITEMS),
    )
    def get(self, request: Request, id: str) -> Response:
        """The items of its input, newest first unless `order=asc`."""
        turn = self.response_of(id).turn
        rows = [row for row in history.messages_of(turn.asks or turn) if not row.agent]
        return Response(page_of([item_json(row) for row in history.inlined(rows)], page_asked(request)))


class ContextView(StoredResponses):
    """Why a response says what it says."""

    @extend_schema(operation_id="retrieveResponseContext", responses=schema.answers(schema.CONTEXT))
    def get(self, request: Request, id: str) -> Response:
        """What the model saw for this response, part by part. OpenAI's own API has no such call."""
        return Response(context.replay(self.response_of(id).turn))


def _shown(asked: Asked) -> dict[str, Any]:
    return shown(asked.turn, asked, turns.result(asked.turn).messages)
