"""Answering with a response: whole, as events, or later."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from convo import database, turns
from convo.conf import conf
from convo.errors import ConvoError, Gone, KeyInFlight, UpstreamRejected
from convo.http import sse
from convo.http.once import NAME, marked, refused_by, replayed
from convo.http.openai_api import ids
from convo.http.openai_api.items import item_json
from convo.http.openai_api.responses.compacting import told_first
from convo.http.openai_api.responses.grammar import Event, Grammar, frame, unheard
from convo.http.openai_api.responses.response import response_json
from convo.http.openai_api.view import refusal
from convo.models import Asked, Idempotency, Message, Session, Turn
from convo.turns import Claim, Done, Key, Result, TurnLog

# What the model server says of the request itself is the caller's affair; that it refuses us is ours.
_THEIR_MISTAKES = {400, 404, 413, 422}


def answer(
    request: Request, key: Key | None, begin: Callable[[Key | None], Claim], *, stream: bool
) -> HttpResponseBase:
    """The answer to the turn that `begin` claims, or the one that it got before under the same key."""
    try:
        claim = begin(key)
    except Done as done:
        return _again(done.row, stream=stream)
    except ConvoError as error:
        return refused(key, error)
    assert claim.asked  # every turn of this surface has one
    background = claim.asked.background
    log = sse.start(request._request, claim)
    if background and not stream:
        return Response(shown(claim.turn, claim.asked, []))
    async_to_sync(sse.heard)(log.begun(), log, stop_when_left=not background)
    check_begun(log)
    if not stream:
        ending = async_to_sync(sse.heard)(log.ended(), log, stop_when_left=True)
        return Response(_ended(claim.turn, claim.asked, ending))
    told = frames(claim.turn, claim.asked, log)
    return sse.respond(told if background else sse.stopping(told, log))


def replay(turn: Turn, asked: Asked, *, after: int = -1) -> HttpResponseBase:
    """The events behind the one numbered `after`, from wherever the response is or was written."""
    database.release()
    return sse.respond(_followed(turn, asked, after))


def shown(turn: Turn, asked: Asked, messages: Sequence[Message]) -> dict[str, Any]:
    """The response as it is now."""
    session = turn.session
    is_conversation = session.kind == Session.Kind.CONVERSATION
    conversation = ids.conversation_id(session) if is_conversation else None
    return response_json(turn, asked, messages, conversation=conversation)


async def frames(turn: Turn, asked: Asked, log: TurnLog, *, after: int = -1) -> AsyncIterator[bytes]:
    """The response's events behind the one numbered `after`, as they come."""
    grammar = Grammar(turn.key, shown(turn, asked, []))
    first = await database.run(told_first, turn, asked)
    yield _framed(unheard(grammar.begin([item_json(row) for row in first]), after))
    async for batch in log.follow(beat=conf().sse_heartbeat_seconds):
        if not batch:
            yield sse.HEARTBEAT
            continue
        yield _framed(unheard((event for delta in batch for event in grammar.feed(delta)), after))
    ending = await turns.ending(turn, log)
    yield _framed(unheard(grammar.end(_ended(turn, asked, ending)), after))


def _framed(found: Iterable[Event]) -> bytes:
    return b"".join(map(frame, found))


async def _followed(turn: Turn, asked: Asked, after: int) -> AsyncIterator[bytes]:
    log = await turns.follow(turn)
    async for told in frames(turn, asked, log, after=after):
        yield told


def check_begun(log: TurnLog) -> None:
    """Where the model server does not answer, say why: nothing has been sent yet."""
    if log.ending is None or log.deltas:
        return
    failure = log.ending if isinstance(log.ending, ConvoError) else log.ending.failure
    if failure:
        raise passed_on(failure)


def _ended(turn: Turn, asked: Asked, ending: Result | ConvoError) -> dict[str, Any]:
    """The response at its end; one whose turn is gone has failed."""
    if isinstance(ending, Result):
        ending.turn.session = turn.session
        return shown(ending.turn, asked, ending.messages)
    turn.status, turn.error = Turn.Status.FAILED, {"code": ending.code, "message": ending.message}
    return shown(turn, asked, [])


def passed_on(error: ConvoError) -> ConvoError:
    """What the model server said of this request, under its own status."""
    status = error.details.get("upstream_status")
    error.kept = True
    if isinstance(error, UpstreamRejected) and status in _THEIR_MISTAKES:
        error.status, error.type = status, "invalid_request_error"
        error.code = "model_not_found" if status == 404 else "invalid_value"
    return error


def _again(row: Idempotency, *, stream: bool) -> HttpResponseBase:
    """The answer that the same request got before."""
    if row.turn is None or row.status == Gone.status:
        return replayed(row)
    # With its session, which is asked for while the events are told.
    asked = Asked.objects.select_related("turn__session").filter(turn=row.turn).first()
    if asked is None:
        raise Gone("What was answered under this key was not to be stored.", param=NAME)
    if not asked.params:
        # Every request has some: they are taken away when the response is deleted.
        raise Gone(param=NAME)
    turn = asked.turn
    if stream:
        return marked(replay(turn, asked))
    if not turn.ended and not asked.background:
        raise KeyInFlight(param=NAME, retry_after=1)
    return marked(Response(shown(turn, asked, turns.result(turn).messages)))


def refused(key: Key | None, error: ConvoError) -> Response:
    """The answer to a refused request: raised or, under its key, kept where it will stay the same."""
    return refused_by(key, error, refusal)
