"""/v1/responses/input_tokens and /v1/responses/compact: count the tokens of an input, and shorten it."""

import secrets
from collections.abc import Sequence
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from convo import agents, history, memory, tokens, turns
from convo.agents import Agent
from convo.history import NewMessage
from convo.models import NOBODY, Message, Person, Session, new_item_id
from convo.openai_api import ids, schema
from convo.openai_api.items import item_json, sign_text
from convo.openai_api.responses import response_input
from convo.openai_api.responses.auto_compaction import prompt_tokens
from convo.openai_api.responses.lookup import StoredResponseView
from convo.openai_api.responses.request import NewResponse, ResponseRequest, read_response_request
from convo.openai_api.responses.serialize import usage_json
from convo.openai_api.validation import ModelName, validate
from convo.openai_api.view import person_of


class NewCompaction(NewResponse):
    """A request for a compaction."""

    model: ModelName


class InputTokensView(StoredResponseView):
    """The length of an input."""

    @schema.operation("countInputTokens", schema.TOKEN_COUNT, request=NewResponse, reads=True)
    def post(self, request: Request) -> Response:
        """Count the tokens that this request would send to the model, by Convo's count. No model is asked."""
        response_request, session, last_position, question = _read_input(self, self.body())
        input_tokens = prompt_tokens(response_request, question, session, last_position)
        return Response({"object": "response.input_tokens", "input_tokens": input_tokens})


class CompactView(StoredResponseView):
    """Compaction of a long input."""

    @schema.operation("compactResponse", schema.COMPACTION, request=NewCompaction, reads=True, asks=True)
    def post(self, request: Request) -> Response:
        """Return the user's messages, and everything said so far as one compaction.

        Send both in place of the input from now on.
        """
        body = self.body()
        validate(NewCompaction, body)
        response_request, session, last_position, question = _read_input(self, body)
        rows = [*history.messages_upto(session, last_position), *(draft.row() for draft in question)]
        options = response_request.turn_request.options
        agent = agents.get(response_request.agent, model=options["model"])
        return Response(_compaction_json(rows, agent, instructions=options["instructions"]))


def _compaction_json(rows: Sequence[Message], agent: Agent, *, instructions: str) -> dict[str, Any]:
    dialogue = [(row.role, row.content) for row in rows if row.content]
    text = memory.compact(dialogue, agent, hint=instructions)
    input_tokens = sum(tokens.count(content, agent.model_name) for _, content in dialogue)
    compaction = {"id": new_item_id("compaction"), "type": "compaction", "encrypted_content": sign_text(text)}
    user_items = [item_json(row) for row in history.with_inline_data(rows) if row.role == Message.Role.USER]
    return {
        "id": f"{ids.RESPONSE}_{secrets.token_hex(16)}",  # it belongs to no turn
        "object": "response.compaction",
        "created_at": int(timezone.now().timestamp()),
        "output": [*user_items, compaction],
        "usage": usage_json(input_tokens, tokens.count(text, agent.model_name)),
    }


def _read_input(
    view: StoredResponseView, sent_fields: Any
) -> tuple[ResponseRequest, Session, int, list[NewMessage]]:
    """Return the request, the session with the position that it continues from, and the new messages.

    Nothing is stored.
    """
    response_request, person = read_response_request(sent_fields), person_of(view.request, sent_fields)
    body, owner = response_request.body, view.request.user
    if body.previous_response_id:
        turn = view.previous_turn(body.previous_response_id, person)
        session, last_position = turn.session, view.last_position(turn)
    elif response_request.conversation_id:
        session = view.conversation(response_request.conversation_id, person, param="conversation")
        last_position = session.last_position
    else:
        session, last_position = turns.new_chain(owner, NOBODY), 0
        session.person = Person.objects.get_or_create_by_ref(owner, person or NOBODY)
    may_be_empty = bool(response_request.conversation_id or body.previous_response_id)
    if may_be_empty and body.input is None:
        return response_request, session, last_position, []
    question = response_input.read_input(body.input, owner, view.person_refs(person))
    return response_request, session, last_position, question
