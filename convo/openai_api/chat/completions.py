"""/v1/chat/completions: the caller's own prompt, sent as it is, or a session with Convo's memory."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework.request import Request

from convo import agents, turns
from convo.errors import NotFound, TurnInProgress
from convo.http.answer import answer
from convo.http.auth import person_in_header
from convo.http.idempotency import idempotency_key
from convo.models import NOBODY, IdempotencyRecord, Session, Turn, TurnRequest
from convo.openai_api import ids, schema
from convo.openai_api.chat.messages import drafts_of, sent_messages, system_text
from convo.openai_api.chat.new_input import NewInput, check_results, find_new_input, messages_to_ask
from convo.openai_api.chat.reply import SESSION_HEADER, CompletionReply
from convo.openai_api.chat.request import ChatRequest, NewCompletion, read_chat_request
from convo.openai_api.chat.stored_views import StoredCompletionsView
from convo.openai_api.view import (
    error_response,
    person_of,
    require_stored_session,
    stored_request,
    stores_conversations,
)
from convo.turns import Claim, IdempotencyKey, OnBusy

NEW_SESSION = "new"
# The core calls the question `message`.
_PARAM_NAMES = {"message": "messages"}
# The request is compared with its session this many times while others keep writing to it.
_MAX_TRIES = 5


class _SessionChanged(Exception):
    """Not an error: something was written to the session since it was read."""


class CompletionsView(StoredCompletionsView):
    """Chat completions."""

    @schema.operation(
        "createChatCompletion", schema.COMPLETION, request=NewCompletion, writes=True, asks=True, streams=True
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Answer these messages. With X-Convo-Session, the messages before them come from that session."""
        body = self.body()
        person = person_of(request, body)

        def reply_of(turn: Turn, turn_request: TurnRequest | None) -> CompletionReply:
            turn_request = turn_request or stored_request(turn)
            begins_session = self._requested_session_id(turn_request.metadata) in {"", NEW_SESSION}
            return CompletionReply(turn=turn, turn_request=turn_request, begins_session=begins_session)

        return answer(
            request,
            self._idempotency_key(person),
            lambda key: self._claim(read_chat_request(body), person, key),
            reply_of,
            partial(error_response, param_names=_PARAM_NAMES),
        )

    def _idempotency_key(self, person: str | None) -> IdempotencyKey | None:
        """Return the request's idempotency key. Its fingerprint covers the session header, too."""
        key = idempotency_key(self.request, person or person_in_header(self.request))
        session_id = self.request.headers.get(SESSION_HEADER)
        if key is None or session_id is None:
            return key
        fingerprint = hashlib.sha256(f"{key.fingerprint} {session_id}".encode()).hexdigest()
        return replace(key, fingerprint=fingerprint)

    def _requested_session_id(self, metadata: Mapping[str, str]) -> str | None:
        """Return the session that the request names, or None if it carries the conversation itself."""
        session_id = self.request.headers.get(SESSION_HEADER, metadata.get("session_id"))
        return None if session_id is None else session_id.strip()

    def _claim(self, chat_request: ChatRequest, person: str | None, key: IdempotencyKey | None) -> Claim:
        session_id = self._requested_session_id(chat_request.turn_request.metadata)
        if session_id is None:
            return self._begin_without_session(chat_request, person, key)
        chat_request.turn_request.options["instructions"] = system_text(chat_request.messages)
        if session_id in {"", NEW_SESSION}:
            return self._begin_session(chat_request, person, key)
        for _ in range(_MAX_TRIES):
            session = self._find_session(session_id, person)
            try:
                new_input = find_new_input(session, chat_request.messages)
                return _begin_in_session(session, new_input, chat_request, key)
            except _SessionChanged:
                continue
        raise TurnInProgress

    def _begin_without_session(
        self, chat_request: ChatRequest, person: str | None, key: IdempotencyKey | None
    ) -> Claim:
        """Send the caller's own prompt and store only its usage.

        The messages are stored, too, if the caller asks for it, or if the request has an idempotency key:
        then for as long as the key is valid, because a replay needs them.
        """
        request = chat_request.turn_request
        request.options["messages"] = _prompt(chat_request)
        is_stored = stores_conversations(chat_request.agent) and (request.is_stored or key is not None)
        storage = Session.Storage.PERSISTENT if is_stored else Session.Storage.NONE
        chain = turns.new_chain(self.request.user, person or NOBODY, storage=storage)
        if not request.is_stored:
            chain.expires_at = timezone.now() + IdempotencyRecord.LIFETIME
        if not is_stored and key is None:
            return turns.begin_unstored(chain, agent=chat_request.agent, request=request)
        question = drafts_of(sent_messages(chat_request.messages)) if is_stored else []
        return turns.begin(chain, question, agent=chat_request.agent, key=key, request=request)

    def _begin_session(
        self, chat_request: ChatRequest, person: str | None, key: IdempotencyKey | None
    ) -> Claim:
        question = drafts_of(messages_to_ask(chat_request.messages))
        check_results(None, question)
        agent = "" if chat_request.agent == agents.PASSTHROUGH else chat_request.agent
        session = require_stored_session(turns.new_session(self.request.user, person or NOBODY, agent=agent))
        return turns.begin(
            session, question, agent=chat_request.agent, key=key, request=chat_request.turn_request
        )

    def _find_session(self, session_id: str, person: str | None) -> Session:
        try:
            id = f"{ids.CONVERSATION}_{uuid.UUID(session_id).hex}"
        except ValueError:
            id = session_id
        try:
            return self.conversation(id, person)
        except NotFound as error:
            raise NotFound(f"Session '{session_id[:80]}' not found.", param=SESSION_HEADER) from error


def _begin_in_session(
    session: Session, new_messages: NewInput, chat_request: ChatRequest, key: IdempotencyKey | None
) -> Claim:
    def check_unchanged(locked_session: Session) -> None:
        if locked_session.version != new_messages.version:
            raise _SessionChanged

    options: dict[str, Any] = {
        "agent": chat_request.agent,
        "key": key,
        "request": chat_request.turn_request,
        "guard": check_unchanged,
    }
    if new_messages.turn_to_regenerate is None:
        return turns.begin(session, new_messages.drafts, on_busy=chat_request.on_busy, **options)
    try:
        return turns.regenerate(
            session, edited_question=new_messages.drafts, turn_id=new_messages.turn_to_regenerate, **options
        )
    except TurnInProgress as busy:
        if chat_request.on_busy != OnBusy.INTERRUPT:
            raise
        turns.stop_running(busy.details["turn"]["id"])
        raise _SessionChanged from busy


def _prompt(chat_request: ChatRequest) -> list[dict[str, Any]]:
    """Return the messages as they were sent, after the agent's instructions if the model is an agent."""
    messages = [dict(message) for message in chat_request.messages]
    agent = chat_request.agent
    instructions = "" if agent == agents.PASSTHROUGH else agents.get(agent).instructions
    return [{"role": "system", "content": instructions}, *messages] if instructions else messages
