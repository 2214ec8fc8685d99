"""Record messages that were written elsewhere: all of them or none, without asking a model."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models.functions import Now

from convo import database, history, memory
from convo.errors import InvalidRequest
from convo.history import NewMessage
from convo.history.tool_pairs import invalid_results
from convo.models import Message, Session, Turn
from convo.turns.claim import create_turn, lock_open


@database.retry_conflicts
def record(
    session: Session, messages: Sequence[NewMessage], *, call_id_path: str = "messages[{index}].item.call_id"
) -> list[Message]:
    """Append messages as recorded turns: a user message opens a turn, and the messages after it join it.

    `call_id_path` is the field with the id of the call that a tool's result answers, in the caller's request.
    """
    with transaction.atomic():
        locked_session = lock_open(session.pk)
        # A tool result without its call, or a second one for it, would make every later prompt invalid.
        for index, reason in invalid_results(locked_session, messages):
            raise InvalidRequest(reason, param=call_id_path.format(index=index))
        entries: list[tuple[Turn, NewMessage]] = []
        turn = _last_recorded_turn(locked_session)
        for message in messages:
            if turn is None or message.role == Message.Role.USER:
                turn = create_turn(
                    locked_session,
                    parent_id=turn.pk if turn else None,
                    kind=Turn.Kind.RECORDED,
                    status=Turn.Status.COMPLETE,
                    agent=locked_session.agent,
                    finished_at=Now(),
                )
            entries.append((turn, message))
        rows = history.append(locked_session, entries)
        if locked_session.storage == Session.Storage.PERSISTENT:
            memory.schedule(locked_session, dict.fromkeys(turn for turn, _ in entries))
        return rows


def _last_recorded_turn(session: Session) -> Turn | None:
    last_message = Message.objects.transcript(session).select_related("turn").last()
    return last_message.turn if last_message and last_message.turn.kind == Turn.Kind.RECORDED else None
