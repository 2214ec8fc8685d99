"""End turns: exactly once, whoever ends them, and with as much of the reply as there is."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db.models import F
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from convo import database
from convo.conf import conf
from convo.errors import ContentsExpired, ConvoError, TurnInProgress, TurnInterrupted
from convo.history import ephemeral
from convo.history.branches import activate
from convo.history.messages import NewMessage
from convo.history.write import append, lock
from convo.models import (
    Chunk,
    Message,
    ReplyItem,
    Session,
    Turn,
    TurnRequest,
    UserMemory,
    rebuild_draft_items,
    reply_item_id,
)

MAX_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class TurnEnding:
    """The end of a turn: status, error, and the reply's chunk lengths, tokens and time of the first chunk."""

    status: str
    error: Mapping[str, object] | None = None
    chunks: Sequence[Mapping[str, object]] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    first_token_at: Combinable | None = None

    @property
    def columns(self) -> dict[str, object]:
        """The columns of the turn's row to set; what is None here stays as it is."""
        values = {**vars(self), "chunks": list(self.chunks)}
        return {name: value for name, value in values.items() if value is not None}


def save_draft(turn: Turn, text: str, chunks: list[Chunk]) -> None:
    if ephemeral.is_ephemeral(turn.session):
        ephemeral.store_draft(turn, text, chunks)
    else:
        Turn.objects.running().filter(pk=turn.pk).update(draft=text, chunks=chunks)


def load_draft_items(turn: Turn) -> list[ReplyItem]:
    if ephemeral.is_ephemeral(turn.session):
        return rebuild_draft_items(*ephemeral.load_draft(turn))
    return rebuild_draft_items(turn.draft, turn.chunks)


def storable_items(items: Iterable[ReplyItem]) -> list[ReplyItem]:
    """Return the items to store of a reply that broke off: no calls, whose arguments may be incomplete."""
    return [item for item in items if item.kind != ReplyItem.CALL and item.text]


def chunks_json(items: Iterable[ReplyItem], stored_items: Sequence[ReplyItem]) -> list[Chunk]:
    """Return the chunk lengths of these items for replays, with the text of those that are not stored."""
    indices = {item.index for item in stored_items}
    return [
        item.to_json() if item.index in indices else {**item.to_json(), "lost": item.text} for item in items
    ]


def reply_messages(turn: Turn, items: Sequence[ReplyItem]) -> list[NewMessage]:
    """Return the messages of a reply, under the item ids that its live events had."""
    return [_message(item, turn.agent, reply_item_id(turn.key, item.index, item.kind)) for item in items]


def _message(reply_item: ReplyItem, agent: str, item_id: str) -> NewMessage:
    text, item = reply_item.text, {"id": item_id, **_item(reply_item)}
    match reply_item.kind:
        case ReplyItem.CALL:
            return NewMessage(
                role="assistant",
                type=reply_item.kind,
                name=reply_item.name,
                agent=agent,
                item=item,
                item_id=item_id,
            )
        case ReplyItem.REASONING:
            # Reasoning has its text in the item alone: it is no part of the conversation and is never found.
            return NewMessage(role="assistant", type="reasoning", agent=agent, item=item, item_id=item_id)
        case ReplyItem.REFUSAL:
            return NewMessage(role="assistant", content=text, agent=agent, item=item, item_id=item_id)
    return NewMessage(role="assistant", content=text, agent=agent, item_id=item_id)


def _item(reply_item: ReplyItem) -> dict[str, Any]:
    match reply_item.kind:
        case ReplyItem.CALL:
            call_fields = {
                "call_id": reply_item.call_id,
                "name": reply_item.name,
                "arguments": reply_item.text,
            }
            return {"type": "function_call", **call_fields, "status": "completed"}
        case ReplyItem.REASONING:
            part = {"type": "reasoning_text", "text": reply_item.text}
            return {"type": "reasoning", "summary": [], "content": [part], "status": "completed"}
    part = {"type": "refusal", "refusal": reply_item.text}
    return {"type": "message", "role": "assistant", "status": "completed", "content": [part]}


def lock_idle(session_id: UUID, *, queued_turn: Turn | None = None) -> Session:
    """Lock and return the session's row, with no turn running or waiting before the caller's own queued one.

    Turns whose lease has run out are ended here; a live one raises TurnInProgress.
    """
    session = lock(session_id)
    turns_ahead = (
        Turn.objects.ahead_of(queued_turn)
        if queued_turn
        else Turn.objects.unfinished().filter(session=session)
    )
    for turn in turns_ahead.annotate(now=Now()).order_by("id"):
        assert turn.lease_until is not None  # both unfinished states have a lease
        seconds_left = (turn.lease_until - turn.now).total_seconds()  # type: ignore[attr-defined]
        if seconds_left > 0:
            raise TurnInProgress(
                f"Turn {turn.number} is {turn.status} in this session. Wait for it, or try again later.",
                retry_after=math.ceil(seconds_left),
                turn={"id": str(turn.key), "number": turn.number},
            )
        if not end_or_requeue(session, turn):
            raise TurnInProgress(
                f"Turn {turn.number} is being restarted, because its process died. Try again later.",
                turn={"id": str(turn.key), "number": turn.number},
            )
    return session


def end_turn(
    session: Session, turn: Turn, reply: Sequence[NewMessage], ending: TurnEnding
) -> list[Message] | None:
    """End a turn of a locked session and insert its reply; return None if the turn had ended already."""
    if reply and ephemeral.has_lost_contents(session):
        # The text of the question is lost, and a reply alone is no conversation.
        error = _error_json(ContentsExpired())
        reply, ending = (), replace(ending, status=Turn.Status.FAILED, error=error, chunks=())
    is_ephemeral = ephemeral.is_ephemeral(session)
    columns = replace(ending, chunks=()).columns if is_ephemeral else ending.columns
    unfinished_turns = Turn.objects.unfinished().filter(pk=turn.pk)
    if not unfinished_turns.update(draft="", lease_until=None, finished_at=Now(), **columns):
        return None
    if reply and _had_forgotten_memory(session, turn):
        reply = [replace(message, recallable=False) for message in reply]
    rows = append(session, [(turn, message) for message in reply])
    if is_ephemeral:
        ephemeral.store_chunks(session, turn, list(ending.chunks))
    if rows and turn.question_turn_id:
        # A regenerated reply, or an edited question with its reply, replaces the branch that was active.
        activate(session, turn)
    return rows


def _had_forgotten_memory(session: Session, turn: Turn) -> bool:
    """Return whether the prompt of this turn held a memory that was forgotten while the turn ran.

    The text of a forgotten memory is erased and can't be looked for in the reply, so the whole reply counts
    as repeating it.
    """
    forgotten_memories = UserMemory.objects.filter(
        person=session.person_id, status=UserMemory.Status.FORGOTTEN
    )
    if not forgotten_memories.exists():
        return False
    memory_keys = Turn.objects.only("manifest").get(pk=turn.pk).memory_keys
    return bool(memory_keys) and forgotten_memories.filter(key__in=memory_keys).exists()


def end_turn_from_draft(session: Session, turn: Turn, error: ConvoError, *, status: str = "") -> None:
    """End a turn that its runner can't end, with the reply as far as it was saved."""
    turn.session = session
    items = load_draft_items(turn)
    stored_items = storable_items(items)
    status = status or (Turn.Status.PARTIAL if stored_items else Turn.Status.FAILED)
    chunks = chunks_json(items, stored_items)
    ending = TurnEnding(status=status, error=_error_json(error), chunks=chunks)
    end_turn(session, turn, reply_messages(turn, stored_items), ending)


def _error_json(error: ConvoError) -> dict[str, str]:
    return {"code": error.code, "message": error.message}


def end_or_requeue(session: Session, turn: Turn) -> bool:
    """End a turn whose process died; return False if it goes back to the queue instead."""
    if requeue(turn):
        return False
    end_turn_from_draft(session, turn, TurnInterrupted())
    return True


def requeue(turn: Turn) -> bool:
    """Requeue a background turn that has no output yet, a few times at most; return whether it was."""
    if turn.draft:
        return False
    requests = TurnRequest.objects.filter(turn=turn, background=True, attempts__lt=MAX_ATTEMPTS)
    unfinished_turns = Turn.objects.unfinished().filter(pk=turn.pk)
    if not (unfinished_turns.exists() and requests.update(attempts=F("attempts") + 1)):
        return False
    # The turn waits in the queue for as long as this lease lasts, until a process takes it over.
    lease = database.seconds_from_now(conf().queue_seconds)
    unfinished_turns.update(status=Turn.Status.QUEUED, worker="", lease_until=lease)
    return True
