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
from convo.errors import ConvoError, InvalidRequest, ResultDeleted
from convo.http.auth import requested_person
from convo.http.errors import rest_response
from convo.http.representations import messages_json
from convo.models import IdempotencyRecord, Session, Turn
from convo.turns import AlreadyProcessed, IdempotencyKey

R = TypeVar("R", bound=HttpResponseBase)
# Renders an error as the response to its request.
Refuse = Callable[[ConvoError], Response]

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
    request: Request,
    write: Callable[[], Response],
    turn_of: Callable[[Response], Turn] | None = None,
    *,
    person: str | None = None,
    refuse: Refuse = rest_response,
) -> Response:
    """Make this write, or return its response if it was made under the same key before.

    `turn_of` names the turn that the response quotes; the stored response is deleted with that turn. `refuse`
    renders an error that would be the same next time.
    """
    key = idempotency_key(request, person)
    if key is None:
        return write()
    try:
        return _write_and_store(key, write, turn_of, refuse)
    except AlreadyProcessed as processed:
        return mark_replayed(stored_response(processed.row))


def store_error(key: IdempotencyKey | None, error: ConvoError, refuse: Refuse) -> Response:
    """Return this error as `refuse` renders it, stored under the key if it would be the same next time.

    Raises AlreadyProcessed as `reserve` does.
    """

    def raise_error() -> Response:
        raise error

    try:
        return _write_and_store(key, raise_error, None, refuse) if key else refuse(error)
    except ConvoError as current_error:
        return refuse(current_error)


def stored_response(row: IdempotencyRecord) -> Response:
    check_result_exists(row)
    body = json.loads(str(row.body))
    if row.turn and row.turn.session.is_ephemeral:
        # Only the positions of the appended messages are stored with the key.
        messages = [history.message_at(row.turn.session, position) for position in body]
        body = {"results": messages_json(messages)}
    return Response(body, status=row.status)


def check_result_exists(row: IdempotencyRecord) -> None:
    """Raise ResultDeleted if the result of an earlier request was deleted, or never stored."""
    if row.status == ResultDeleted.status:
        raise ResultDeleted(param=KEY_HEADER)
    if row.turn and row.turn.session.storage == Session.Storage.NONE and row.turn.has_ended:
        raise ResultDeleted(
            "This response was not stored, so it can't be replayed. Use a new Idempotency-Key.",
            param=KEY_HEADER,
        )


def mark_replayed(response: R) -> R:
    response[REPLAYED_HEADER] = "true"
    return response


@database.retry_conflicts
@transaction.atomic
def _write_and_store(
    key: IdempotencyKey,
    write: Callable[[], Response],
    turn_of: Callable[[Response], Turn] | None,
    refuse: Refuse,
) -> Response:
    """Make this write, and store the response in the same transaction."""
    row = turns.reserve(key)
    response = _write_or_refuse(write, refuse)
    # The body is stored as text, because PostgreSQL reorders the fields of a JSON object.
    row.status, row.body = response.status_code, json.dumps(response.data, cls=JSONEncoder)
    if turn_of and response.status_code < 400:
        row.turn = turn_of(response)
        if row.turn.session.storage != Session.Storage.PERSISTENT:
            row.body = json.dumps([message["position"] for message in response.data["results"]])
    row.save(update_fields=["turn", "status", "body"])
    return response


def _write_or_refuse(write: Callable[[], Response], refuse: Refuse) -> Response:
    """Make this write; return its response, or that to an error which would be the same next time."""
    try:
        with transaction.atomic():
            return write()
    except ConvoError as error:
        if error.status >= 500 or error.status in _TRANSIENT_STATUSES:
            raise
        return refuse(error)


def _person_in(data: Any) -> str | None:
    name = data.get("user") if hasattr(data, "get") else None
    return name if isinstance(name, str) else None
