"""Record messages that were written elsewhere: all of them or none, without asking a model."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models.functions import Now

from convo import database, history, memory
from convo.errors import InvalidRequest
from convo.history import NewMessage
from convo.history.tool_pairs import invalid_results
from convo.models import Message, Session, Turn
from convo.turns.claim import lock_open, new_turn


@database.retry_conflicts
def record(
    session: Session, messages: Sequence[NewMessage], *, call_id_path: str = "messages[{index}].item.call_id"
) -> list[Message]:
    """Append messages as recorded turns: a user message opens a turn, and the messages after it join it.

    `call_id_path` is the field with the id of the call that a tool's result answers, in the caller's request.
    """
    with transaction.atomic():
        session, last_turn, _ = lock_open(session.pk)
        # A tool result without its call, or a second one for it, would make every later prompt invalid.
        for index, reason in invalid_results(session, messages):
            raise InvalidRequest(reason, param=call_id_path.format(index=index))
        entries = _group_by_turn(session, last_turn, messages)
        rows = history.append(session, entries)
        if session.storage == Session.Storage.PERSISTENT:
            memory.schedule(session, [turn for turn, _ in entries])
        return rows


def _group_by_turn(
    session: Session, last_turn: Turn | None, messages: Sequence[NewMessage]
) -> list[tuple[Turn, list[NewMessage]]]:
    turns: list[tuple[Turn, list[NewMessage]]] = []
    if last_turn and last_turn.kind == Turn.Kind.RECORDED:
        turns.append((last_turn, []))
    for message in messages:
        if not turns or message.role == Message.Role.USER:
            last_turn = new_turn(
                session,
                parent=last_turn,
                kind=Turn.Kind.RECORDED,
                status=Turn.Status.COMPLETE,
                agent=session.agent,
                finished_at=Now(),
            )
            turns.append((last_turn, []))
        turns[-1][1].append(message)
    return [(turn, turn_messages) for turn, turn_messages in turns if turn_messages]
