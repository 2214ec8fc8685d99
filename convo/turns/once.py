"""The same write sent twice is made once: its key is stored in the transaction that makes it."""

from dataclasses import dataclass
from typing import Any

from convo import history
from convo.errors import Gone, KeyReused, by_code
from convo.jobs import swept_anywhere
from convo.models import Idempotency, Session, Turn


@dataclass(frozen=True, kw_only=True)
class Key:
    """An Idempotency-Key with what it is bound to: who sent it, and which request."""

    owner: Any
    person: str
    key: str
    fingerprint: str


class Done(Exception):
    """Not an error: this write was made before, and this is its row. Its turn may still be running."""

    def __init__(self, row: Idempotency) -> None:
        self.row = row


def enter(key: Key) -> Idempotency:
    """The key's row, made in the caller's transaction, or that of a turn whose question is to be asked again.

    Raises Done where the write was made before; a key of another request is refused.
    """
    whose = {"owner": key.owner, "person": key.person, "key": key.key}
    Idempotency.objects.old().filter(**whose).delete()
    given = {"fingerprint": key.fingerprint}
    rows = Idempotency.objects.select_related("turn__session")
    row, is_new = rows.get_or_create(**whose, defaults=given)
    if row.fingerprint != key.fingerprint:
        raise KeyReused(param="Idempotency-Key")
    if row.turn and row.turn.session.state == Session.State.DELETED:
        raise Gone(param="Idempotency-Key")
    if not (is_new or _asks_again(row)):
        raise Done(row)
    return row


def _asks_again(row: Idempotency) -> bool:
    """Did the turn of this key end without an answer? One whose process died is ended here."""
    if row.turn is None or _is_answered(row.turn):
        return False
    # The session first, as in every write: then nobody clears it, or asks again, meanwhile.
    session = history.lock(row.turn.session_id)
    row.refresh_from_db()
    if row.turn and Turn.objects.expired().filter(pk=row.turn.pk).exists():
        return history.reap(session, row.turn)
    return row.turn is not None and row.turn.ended and not _is_answered(row.turn)


def _is_answered(turn: Turn) -> bool:
    """Has it ended for good? Not where the caller was told that the same request may succeed later."""
    retryable = turn.error is not None and by_code(turn.error["code"])().retryable
    return turn.ended and turn.status != Turn.Status.FAILED and not retryable


@swept_anywhere
def prune() -> int:
    """Delete the keys whose time is over."""
    return Idempotency.objects.old().delete()[0]
