"""Messages that were made elsewhere: appended all or none, without asking a model."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models.functions import Now

from convo import database, history, memory
from convo.errors import InvalidRequest
from convo.history import Draft
from convo.models import Message, Session, Turn
from convo.turns.claim import lock_open, new_turn


@database.retried
def record(session: Session, drafts: Sequence[Draft]) -> list[Message]:
    """Append messages in turns of their own: a user message opens one, what follows joins it."""
    with transaction.atomic():
        locked = lock_open(session.pk)
        _check_results(locked, drafts)
        entries: list[tuple[Turn, Draft]] = []
        turn = _open_turn(locked)
        for draft in drafts:
            if turn is None or draft.role == Message.Role.USER:
                turn = new_turn(
                    locked,
                    parent_id=turn.pk if turn else None,
                    kind=Turn.Kind.RECORDED,
                    status=Turn.Status.COMPLETE,
                    agent=locked.agent,
                    finished_at=Now(),
                )
            entries.append((turn, draft))
        rows = history.append(locked, entries)
        if locked.storage == Session.Storage.KEPT:
            memory.hint(locked, dict.fromkeys(turn for turn, _ in entries))
        return rows


def _open_turn(session: Session) -> Turn | None:
    """The recorded turn that the transcript ends with, which further messages join."""
    last = Message.objects.transcript(session).select_related("turn").last()
    return last.turn if last and last.turn.kind == Turn.Kind.RECORDED else None


def _check_results(session: Session, drafts: Sequence[Draft]) -> None:
    """A tool's result without the call that asked for it, or a second one, would poison later prompts."""
    calls: set[str] = set()
    results: set[str] = set()
    for index, draft in enumerate(drafts):
        call_id = draft.call_id
        if draft.type == "function_call":
            calls.add(call_id)
        if draft.type != "function_call_output":
            continue
        if call_id not in calls and not _in_transcript(session, "function_call", call_id):
            raise _refused(index, f"No tool call found for function call output with call_id {call_id}.")
        if call_id in results or _in_transcript(session, "function_call_output", call_id):
            raise _refused(index, f"The tool call {call_id} has its result already.")
        results.add(call_id)


def _in_transcript(session: Session, type: str, call_id: str) -> bool:
    return Message.objects.transcript(session).filter(type=type, item__call_id=call_id).exists()


def _refused(index: int, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=f"messages[{index}].item.call_id")
