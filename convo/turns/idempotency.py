"""Idempotency keys: a repeated request is processed once, as its key is stored in the same transaction."""

from dataclasses import dataclass
from typing import Any

from convo import history
from convo.errors import IdempotencyKeyReused, ResultDeleted, class_by_code
from convo.history import statements
from convo.jobs import quick_batch_job
from convo.models import IdempotencyRecord, Session, Turn


@dataclass(frozen=True, kw_only=True)
class IdempotencyKey:
    """An Idempotency-Key, with its sender and the fingerprint of the request that it belongs to."""

    owner: Any
    person: str
    key: str
    fingerprint: str


class AlreadyProcessed(Exception):
    """Not an error: the request was processed before. `row` is its key, whose turn may still be running."""

    def __init__(self, row: IdempotencyRecord) -> None:
        self.row = row


def reserve(key: IdempotencyKey) -> IdempotencyRecord:
    """Reserve the key in the caller's transaction and return its row.

    If the row has a turn, that turn ended without an answer and its question is to be asked again. Raises
    AlreadyProcessed if the request was processed before, and IdempotencyKeyReused if the key was sent with
    another request.
    """
    row, is_new = _get_or_insert(key)
    if row.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused(param="Idempotency-Key")
    if row.turn and row.turn.session.state == Session.State.DELETED:
        raise ResultDeleted(param="Idempotency-Key")
    if not (is_new or _must_ask_again(row)):
        raise AlreadyProcessed(row)
    return row


def _get_or_insert(key: IdempotencyKey) -> tuple[IdempotencyRecord, bool]:
    """Insert the row of this key, or get the row that is there; return it and whether it is new."""
    lookup = {"owner": key.owner, "person": key.person, "key": key.key}
    new_row = IdempotencyRecord(**lookup, fingerprint=key.fingerprint)
    # The usual key is new, so it is inserted without a look. An expired row makes room for it.
    while not statements.insert_if_absent(new_row):
        IdempotencyRecord.objects.expired().filter(**lookup).delete()
        rows = IdempotencyRecord.objects.select_related("turn__session")
        if row := rows.filter(**lookup).first():
            return row, False
    return new_row, True


def _must_ask_again(row: IdempotencyRecord) -> bool:
    """Return whether the key's turn ended without an answer; a turn whose process died is ended here."""
    if row.turn is None or _is_answered(row.turn):
        return False
    # The session is locked first, as in every write: then nobody clears it or asks again meanwhile.
    session = history.lock(row.turn.session_id)
    row.refresh_from_db()
    if row.turn and Turn.objects.expired().filter(pk=row.turn.pk).exists():
        return history.end_or_requeue(session, row.turn)
    return row.turn is not None and row.turn.has_ended and not _is_answered(row.turn)


def _is_answered(turn: Turn) -> bool:
    # An error that told the caller to retry is not an answer.
    retryable = turn.error is not None and class_by_code(turn.error["code"])().retryable
    return turn.has_ended and turn.status != Turn.Status.FAILED and not retryable


@quick_batch_job
def delete_expired_keys() -> int:
    return IdempotencyRecord.objects.expired().delete()[0]
