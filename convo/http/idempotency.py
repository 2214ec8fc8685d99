"""Idempotency keys: a write that is sent twice is made once and answered twice."""

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
from convo.errors import ConvoError, IdempotencyKeyInUse, InvalidRequest, ResultDeleted
from convo.http import sse
from convo.http.auth import requested_person
from convo.http.errors import envelope, headers
from convo.http.representations import messages_of_turns_json
from convo.models import IdempotencyRecord, Session, Turn
from convo.turns import AlreadyProcessed, IdempotencyKey

R = TypeVar("R", bound=HttpResponseBase)

KEY_HEADER, REPLAYED_HEADER = "Idempotency-Key", "Idempotent-Replayed"
# With these statuses the same request may succeed later; other client errors stay, so they are stored.
_TRANSIENT_STATUSES = {409, 429}


def idempotency_key(request: Request, person: str | None = None) -> IdempotencyKey | None:
    """Return the key of this request, bound to its sender, its person and its content; None without one."""
    value = request.headers.get(KEY_HEADER)
    if value is None:
        return None
    if not 0 < len(value) <= 255 or not value.isascii() or not value.isprintable():
        raise InvalidRequest(f"{KEY_HEADER} takes 1 to 255 printable ASCII characters.", param=KEY_HEADER)
    parts = [request.method, request.get_full_path(), request.data]
    content = json.dumps(parts, sort_keys=True, default=str)
    return IdempotencyKey(
        owner=request.user,
        person=requested_person(request, _person_in(request.data)) or "" if person is None else person,
        key=value,
        fingerprint=hashlib.sha256(content.encode()).hexdigest(),
    )


def process_once(
    request: Request, write: Callable[[], Response], turn_of: Callable[[Response], Turn] | None = None
) -> Response:
    """Make this write, or return its response if it was made under the same key before.

    `turn_of` names the turn that the response quotes; the stored response is deleted with that turn.
    """
    return process_once_by_key(idempotency_key(request), write, turn_of, _error_response)


def process_once_by_key(
    key: IdempotencyKey | None,
    write: Callable[[], Response],
    about: Callable[[Response], Turn] | None,
    render_error: Callable[[ConvoError], Response],
) -> Response:
    """Make this write under a given key; `render_error` renders an error that would be the same next time."""
    if key is None:
        return write()
    try:
        return _write_and_store(key, write, about, render_error)
    except AlreadyProcessed as processed:
        return replay_response(processed.row)


def store_error(request: Request, error: ConvoError) -> Response:
    """Raise this error or, under a key, store and return it if it would be the same next time."""
    return store_error_by_key(idempotency_key(request), error, _error_response)


def store_error_by_key(
    key: IdempotencyKey | None, error: ConvoError, refusal: Callable[[ConvoError], Response]
) -> Response:
    """Raise this error, or store and return it under a given key, as `refusal` renders it."""

    def raise_error() -> Response:
        raise error

    return process_once_by_key(key, raise_error, None, refusal)


def replay_response(row: IdempotencyRecord) -> Response:
    """Return the response to an earlier write: the stored one or, for a reply, one built from its rows."""
    if row.status == ResultDeleted.status:
        raise ResultDeleted(param=KEY_HEADER)
    if row.turn and row.turn.session.storage == Session.Storage.NONE and row.turn.has_ended:
        raise ResultDeleted("What was answered under this key was not to be stored.", param=KEY_HEADER)
    if row.turn and row.turn.kind == Turn.Kind.REPLY:
        return mark_replayed(_reply_response(row.turn))
    if row.turn and row.turn.session.is_ephemeral:
        return mark_replayed(_append_response(row, row.turn.session))
    return mark_replayed(Response(json.loads(str(row.body)), status=row.status))


def mark_replayed(response: R) -> R:
    """Mark the response as a replay of an earlier one."""
    response[REPLAYED_HEADER] = "true"
    return response


def _append_response(row: IdempotencyRecord, session: Session) -> Response:
    """Return the response to an append to an ephemeral session, for which the row has only positions."""
    messages = [history.message_at(session, position) for position in json.loads(str(row.body))]
    return Response({"results": messages_of_turns_json(messages)}, status=row.status)


def _reply_response(turn: Turn) -> Response:
    if not turn.has_ended:
        raise IdempotencyKeyInUse(param=KEY_HEADER, turn={"id": str(turn.key), "number": turn.number})
    try:
        return Response(sse.result_or_raise(turn.session_id, turns.result_of(turn)))
    except ConvoError as error:
        return _error_response(error)


@database.retry_conflicts
@transaction.atomic
def _write_and_store(
    key: IdempotencyKey,
    write: Callable[[], Response],
    turn_of: Callable[[Response], Turn] | None,
    render_error: Callable[[ConvoError], Response],
) -> Response:
    """Make this write, and store the response in the same transaction."""
    row = turns.reserve(key)
    response = _write_or_refuse(write, render_error)
    # The body is stored as text, because PostgreSQL reorders the fields of a JSON object.
    row.status, row.body = response.status_code, json.dumps(response.data, cls=JSONEncoder)
    if turn_of and response.status_code < 400:
        row.turn = turn_of(response)
        if row.turn.session.storage != Session.Storage.PERSISTENT:
            row.body = json.dumps([message["position"] for message in response.data["results"]])
    row.save()
    return response


def _write_or_refuse(
    write: Callable[[], Response], render_error: Callable[[ConvoError], Response]
) -> Response:
    """Make this write; return its response, or that to an error which would be the same next time."""
    try:
        with transaction.atomic():
            return write()
    except ConvoError as error:
        if error.status >= 500 or error.status in _TRANSIENT_STATUSES:
            raise
        return render_error(error)


def _error_response(error: ConvoError) -> Response:
    return Response(envelope(error), status=error.status, headers=headers(error))


def _person_in(data: Any) -> str | None:
    name = data.get("user") if hasattr(data, "get") else None
    return name if isinstance(name, str) else None
