"""Idempotency-Key: a write that is sent twice is made once and answered twice."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import transaction
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from convo import database, history, turns
from convo.errors import ConvoError, Gone, InvalidRequest, KeyInFlight
from convo.http import sse
from convo.http.auth import named_person
from convo.http.errors import envelope, headers
from convo.http.show import each_json
from convo.models import Idempotency, Session, Turn
from convo.turns import Done, Key

R = TypeVar("R", bound=HttpResponseBase)

NAME, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
# A caller's mistake stays one; these may go otherwise next time.
_PASSING = {409, 429}


def idempotency_key(request: Request, person: str | None = None) -> Key | None:
    """The key of this request, bound to who sent it, for whom, and to what it asks for."""
    given = request.headers.get(NAME)
    if given is None:
        return None
    if not 0 < len(given) <= 255 or not given.isascii() or not given.isprintable():
        raise InvalidRequest(f"{NAME} takes 1 to 255 printable ASCII characters.", param=NAME)
    asked = [request.method, request.get_full_path(), request.data]
    return Key(
        owner=request.user,
        person=named_person(request, _named_in(request.data)) or "" if person is None else person,
        key=given,
        fingerprint=hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest(),
    )


def once(
    request: Request, write: Callable[[], Response], about: Callable[[Response], Turn] | None = None
) -> Response:
    """The answer to this write: made now or, under its key, before.

    An answer that tells what a turn says is about that turn, and is deleted with it.
    """
    return once_by(idempotency_key(request), write, about, _refusal)


def once_by(
    key: Key | None,
    write: Callable[[], Response],
    about: Callable[[Response], Turn] | None,
    refusal: Callable[[ConvoError], Response],
) -> Response:
    """The same under a key that is known, where a refusal that stays the same is told in this way."""
    if key is None:
        return write()
    try:
        return _kept(key, write, about, refusal)
    except Done as done:
        return replayed(done.row)


def refused(request: Request, error: ConvoError) -> Response:
    """The answer to a write that was refused: raised or, under its key, kept where it will stay the same."""
    return refused_by(idempotency_key(request), error, _refusal)


def refused_by(key: Key | None, error: ConvoError, refusal: Callable[[ConvoError], Response]) -> Response:
    """The same under a key that is known, told in this way."""

    def refuse() -> Response:
        raise error

    return once_by(key, refuse, None, refusal)


def replayed(row: Idempotency) -> Response:
    """The answer that a write got before: as it was stored or, of a reply, as its rows tell it."""
    if row.status == Gone.status:
        raise Gone(param=NAME)
    if row.turn and row.turn.kind == Turn.Kind.REPLY:
        return marked(_whole(row.turn))
    if row.turn and history.is_fleeting(row.turn.session):
        return marked(_appended(row, row.turn.session))
    return marked(Response(json.loads(str(row.body)), status=row.status))


def marked(response: R) -> R:
    """The response, with the sign that it is no new one."""
    response[REPLAYED] = "true"
    return response


def _appended(row: Idempotency, session: Session) -> Response:
    """The answer to an append to a temporary chat, of which the row has the positions alone."""
    messages = [history.message_at(session, position) for position in json.loads(str(row.body))]
    return Response({"results": each_json(messages)}, status=row.status)


def _whole(turn: Turn) -> Response:
    if not turn.ended:
        raise KeyInFlight(param=NAME, retry_after=1, turn={"id": str(turn.key), "number": turn.number})
    try:
        return Response(sse.told(turn.session_id, turns.result(turn)))
    except ConvoError as error:
        return _refusal(error)


@database.retried
@transaction.atomic
def _kept(
    key: Key,
    write: Callable[[], Response],
    about: Callable[[Response], Turn] | None,
    refusal: Callable[[ConvoError], Response],
) -> Response:
    """The answer to this write, stored in the write's own transaction."""
    row = turns.enter(key)
    response = _final(write, refusal)
    # As text, for PostgreSQL puts the fields of an object in another order.
    row.status, row.body = response.status_code, json.dumps(response.data, cls=JSONEncoder)
    if about and response.status_code < 400:
        row.turn = about(response)
        if history.is_fleeting(row.turn.session):
            row.body = json.dumps([told["position"] for told in response.data["results"]])
    row.save()
    return response


def _final(write: Callable[[], Response], refusal: Callable[[ConvoError], Response]) -> Response:
    """The answer to this write, also where that is a refusal which will stay the same."""
    try:
        with transaction.atomic():
            return write()
    except ConvoError as error:
        if error.status >= 500 or error.status in _PASSING:
            raise
        return refusal(error)


def _refusal(error: ConvoError) -> Response:
    return Response(envelope(error), status=error.status, headers=headers(error))


def _named_in(data: Any) -> str | None:
    named = data.get("user") if hasattr(data, "get") else None
    return named if isinstance(named, str) else None
