"""/v1/responses/input_tokens and compact: how long an input is, and a long one in few words."""

from collections.abc import Sequence
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import agents, history, memory, tokens, turns
from convo.agents import Agent
from convo.history import Draft
from convo.http.openai_api import ids, schema
from convo.http.openai_api.body import Body
from convo.http.openai_api.items import item_json
from convo.http.openai_api.responses import input
from convo.http.openai_api.responses.response import spent_json
from convo.http.openai_api.responses.stored import StoredResponses
from convo.http.openai_api.responses.wanted import wanted
from convo.http.openai_api.sealed import seal
from convo.http.openai_api.view import person_of
from convo.models import Message, new_item_id


class InputTokensView(StoredResponses):
    """How long an input is."""

    @extend_schema(
        operation_id="countInputTokens",
        request=schema.NEW_RESPONSE,
        responses=schema.answers(schema.COUNTED, reads=True),
    )
    def post(self, request: Request) -> Response:
        """The tokens that this request would send to the model, as Convo counts them. No model is asked."""
        body = self.body()
        want, person = wanted(body), person_of(request, body)
        session, upto = self.place(want, person)
        question = _question(self, body, person, may_be_empty=bool(want.conversation or want.previous))
        prompt = turns.preview(session, question, agent=want.agent, asked=want.asked, upto=upto)
        return Response({"object": "response.input_tokens", "input_tokens": prompt.manifest["total"]})


class CompactView(StoredResponses):
    """A long input in few words."""

    @extend_schema(
        operation_id="compactResponse",
        request=schema.COMPACTED,
        responses=schema.answers(schema.COMPACTION, reads=True, asks=True),
    )
    def post(self, request: Request) -> Response:
        """What the user said, and all that was said in short: to be sent in its place from now on."""
        body = self.body()
        body.need("model", str)
        want, person = wanted(body), person_of(request, body)
        session, upto = self.place(want, person)
        question = _question(self, body, person, may_be_empty=bool(want.conversation or want.previous))
        rows = [*history.messages_upto(session, upto), *map(_row, question)]
        wishes = want.asked.wishes
        agent = agents.get(want.agent, model=wishes["model"])
        return Response(_compaction(rows, agent, hint=wishes["instructions"]))


def _compaction(rows: Sequence[Message], agent: Agent, *, hint: str) -> dict[str, Any]:
    said = [(row.role, row.content) for row in rows if row.content]
    text = memory.compact(said, agent, hint=hint)
    read = sum(tokens.count(content, agent.model_name) for _, content in said)
    compaction = {"id": new_item_id("compaction"), "type": "compaction", "encrypted_content": seal(text)}
    asked = [item_json(row) for row in history.inlined(rows) if row.role == Message.Role.USER]
    return {
        "id": ids.new_response_id(),
        "object": "response.compaction",
        "created_at": int(timezone.now().timestamp()),
        "output": [*asked, compaction],
        "usage": spent_json(read, tokens.count(text, agent.model_name)),
    }


def _question(view: StoredResponses, body: Body, person: str | None, *, may_be_empty: bool) -> list[Draft]:
    if may_be_empty and not body.has("input"):
        return []
    return input.read(body.given.get("input"), view.request.user, person)


def _row(draft: Draft) -> Message:
    """A message of the input, which is stored nowhere."""
    return Message(
        item_id=draft.item_id or new_item_id(draft.type),
        type=draft.type,
        role=draft.role,
        content=draft.content,
        item=draft.item,
    )
