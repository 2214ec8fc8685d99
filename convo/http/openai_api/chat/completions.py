"""/v1/chat/completions: the caller's own prompt, sent as it is; or, with a session, our memory behind it."""

import hashlib
import uuid
from dataclasses import replace
from typing import Any

from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from convo import agents, turns
from convo.errors import ConvoError, MessageTooLong, NotFound, TurnInProgress
from convo.http.auth import header_person
from convo.http.once import idempotency_key
from convo.http.openai_api import ids, schema
from convo.http.openai_api.chat import schema as chat_schema
from convo.http.openai_api.chat.answering import SESSION, again, answer
from convo.http.openai_api.chat.messages import drafts_of, system_text
from convo.http.openai_api.chat.news import News, check_pairs, news, spoken
from convo.http.openai_api.chat.request import ChatRequest, read
from convo.http.openai_api.chat.stored import StoredCompletionsView
from convo.http.openai_api.responses.answering import refused
from convo.http.openai_api.view import keeps, kept, person_of
from convo.models import NOBODY, Asked, Session
from convo.models.idempotency import KEPT
from convo.turns import Claim, Done, Key, OnBusy

NEW = "new"
# So often a question is weighed anew while others write to its session.
_TRIES = 5


class _MovedOn(Exception):
    """Not an error: something was written to the session since it was read."""


class CompletionsView(StoredCompletionsView):
    """Chat completions."""

    @extend_schema(
        operation_id="createChatCompletion",
        request=chat_schema.NEW_COMPLETION,
        responses=schema.answers(chat_schema.COMPLETION, writes=True, asks=True, streams=True),
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Answer these messages. With `X-Convo-Session` what was said before comes from there."""
        body = self.body()
        person = person_of(request, body)
        key = self._key(person)
        try:
            want = read(body)
            claim = self._claim(want, person, key)
        except Done as done:
            return again(done.row, body)
        except ConvoError as error:
            if isinstance(error, MessageTooLong):
                error.param = "messages"
            return refused(key, error)
        return answer(request, claim, want, once=self._named(want) in {"", NEW})

    def _key(self, person: str | None) -> Key | None:
        """The key of this request, which is another one where the header names another session."""
        key = idempotency_key(self.request, person or header_person(self.request))
        session = self.request.headers.get(SESSION)
        if key is None or session is None:
            return key
        bound = hashlib.sha256(f"{key.fingerprint} {session}".encode()).hexdigest()
        return replace(key, fingerprint=bound)

    def _named(self, want: ChatRequest) -> str | None:
        """The session that the request names; None when it carries the conversation itself."""
        named = self.request.headers.get(SESSION, want.metadata.get("session_id"))
        return None if named is None else named.strip()

    def _claim(self, want: ChatRequest, person: str | None, key: Key | None) -> Claim:
        named = self._named(want)
        if named is None:
            return self._alone(want, person, key)
        asked = want.asked(instructions=system_text(want.messages))
        if named in {"", NEW}:
            return self._first(want, asked, person, key)
        for _ in range(_TRIES):
            session = self._session(named, person)
            try:
                return _begin(session, news(session, want.messages), want, asked, key)
            except _MovedOn:
                continue
        raise TurnInProgress(retry_after=1)

    def _alone(self, want: ChatRequest, person: str | None, key: Key | None) -> Claim:
        """The prompt as it was given, and nothing kept of it but what it cost.

        What the caller wants stored is; what shall be answered twice alike has to be, for as long as that.
        """
        is_kept = keeps(want.agent) and (want.store or key is not None)
        storage = Session.Storage.KEPT if is_kept else Session.Storage.NONE
        chain = turns.new_chain(self.request.user, person or NOBODY, storage=storage)
        if not want.store:
            chain.expires_at = timezone.now() + KEPT
        given = enumerate(want.messages) if is_kept else ()
        question = [draft for index, said in given for draft in drafts_of(said, f"messages[{index}]")]
        return turns.begin(
            chain, question, agent=want.agent, key=key, asked=want.asked(messages=_prompt(want))
        )

    def _first(self, want: ChatRequest, asked: Asked, person: str | None, key: Key | None) -> Claim:
        """The beginning of a session, with all that was said before."""
        question = [draft for group in spoken(want.messages) for draft in group]
        check_pairs(question, [])
        agent = "" if want.agent == agents.PASSTHROUGH else want.agent
        session = kept(turns.new_session(self.request.user, person or NOBODY, agent=agent))
        return turns.begin(session, question, agent=want.agent, key=key, asked=asked)

    def _session(self, named: str, person: str | None) -> Session:
        try:
            id = f"{ids.CONVERSATION}_{uuid.UUID(named).hex}"
        except ValueError:
            id = named
        try:
            return self.conversation(id, person)
        except NotFound as error:
            raise NotFound(f"Session '{named[:80]}' not found.", param=SESSION) from error


def _begin(session: Session, found: News, want: ChatRequest, asked: Asked, key: Key | None) -> Claim:
    def unchanged(locked: Session) -> None:
        if locked.version != found.version:
            raise _MovedOn

    options: dict[str, Any] = {"agent": want.agent, "key": key, "asked": asked, "check": unchanged}
    if found.again is None:
        return turns.begin(session, found.drafts, on_busy=want.on_busy, **options)
    try:
        return turns.again(session, found.again.number, found.drafts, **options)
    except TurnInProgress as busy:
        if want.on_busy != OnBusy.INTERRUPT:
            raise
        turns.stop_running(busy.details["turn"]["id"])
        raise _MovedOn from busy


def _prompt(want: ChatRequest) -> list[dict[str, Any]]:
    """The messages as they were given; an agent of ours is told its instructions before them."""
    messages = [dict(message) for message in want.messages]
    instructions = "" if want.agent == agents.PASSTHROUGH else agents.get(want.agent).instructions
    return [{"role": "system", "content": instructions}, *messages] if instructions else messages
