"""The same place in a conversation once more: another answer, an edited question, another branch."""

from collections.abc import Sequence

from django.db import transaction

from convo import database, history
from convo.errors import NotFound
from convo.history import Draft
from convo.models import Asked, Session
from convo.turns.claim import Claim, bind, lock_open, once_more
from convo.turns.once import Key, enter
from convo.turns.start import Check, Start, anything


@database.retried
def again(
    session: Session,
    number: int,
    edited: Sequence[Draft] = (),
    *,
    agent: str = "",
    key: Key | None = None,
    asked: Asked | None = None,
    check: Check = anything,
) -> Claim:
    """Answer a turn's question once more, or an edited one in its place, beside the answer that there is.

    What was wished for then is wished for again, unless `asked` says else; `check` may refuse the session.
    """
    with transaction.atomic(durable=True):
        row = enter(key) if key else None
        locked = lock_open(session.pk)
        old = history.turn_of(locked, number)
        if row and row.turn:
            # The same request once more: what it asked is there already.
            old, edited = row.turn, ()
        else:
            check(locked)
        wished = asked or Asked.objects.filter(turn=old).first()
        start = Start.of(agent or old.agent, asked=wished, model=old.model)
        return bind(row, once_more(locked, old, start, edited))


@database.retried
@transaction.atomic
def activate(session: Session, number: int) -> None:
    """Choose this turn among the alternatives: its branch becomes the transcript."""
    locked = history.lock_free(session.pk)
    turn = history.turn_of(locked, number)
    if not history.messages_of(turn):
        raise NotFound(f"Turn {number} has no messages to show.")
    history.activate(locked, turn)
