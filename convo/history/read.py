"""Read the transcript: the newest messages for a prompt, pages for a person, items by their ids."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from convo.errors import NotFound
from convo.history import ephemeral, window
from convo.history.attachments import with_inline_data
from convo.history.messages import NewMessage, TranscriptMessage
from convo.models import Message, Session, Turn


@dataclass(frozen=True)
class MessagePage:
    """Some messages in the requested order, and whether there are more on either side."""

    messages: list[Message]
    has_older: bool
    has_newer: bool


def transcript_message_of(message: Message, *, from_model_turn: bool) -> TranscriptMessage:
    return TranscriptMessage(
        position=message.position,
        turn=message.turn_id,
        type=message.type,
        role=message.role,
        name=message.name,
        agent=message.agent,
        content=message.content,
        item=message.item,
        tokens=message.tokens,
        from_model_turn=from_model_turn,
    )


def preview_message(draft: NewMessage, position: int) -> TranscriptMessage:
    """Return a draft as if it were in the transcript, to preview a prompt with it."""
    return TranscriptMessage(
        position=position,
        turn=0,
        type=draft.type,
        role=draft.role,
        name=draft.name,
        agent=draft.agent,
        content=draft.content,
        item=draft.item,
        tokens=draft.tokens,
        from_model_turn=True,
    )


def newest_messages(
    session_id: UUID, version: tuple[int, int], *, upto: int | None = None
) -> list[TranscriptMessage]:
    """Return the newest messages from the hot window, or from the database, which refills the window.

    With `upto`, return those that end at an earlier position, where a branch is about to begin.
    """
    return look_up_newest(session_id, version, upto=upto)[0]


def look_up_newest(
    session_id: UUID, version: tuple[int, int], *, upto: int | None = None
) -> tuple[list[TranscriptMessage], bool | None]:
    """Return the newest messages, and whether the hot window had them.

    The flag is None where the window can't have any: for an empty transcript, or with an earlier `upto`.
    """
    if upto is not None and upto < version[1]:
        return _read(session_id, before=upto + 1), None
    messages = window.load(session_id, version)
    is_hit = messages is not None
    if messages is None:
        rows = _rows(session_id, before=version[1] + 1)
        is_ephemeral = any(map(ephemeral.has_no_text, rows))
        messages = _transcript_messages(rows)
        # The contents of an ephemeral session lie in the cache anyway, and are not put there twice.
        if not is_ephemeral:
            window.store_window(session_id, version, messages)
    return messages, is_hit if messages else None


def recent_messages(
    session_id: UUID,
    messages: list[TranscriptMessage],
    *,
    pairs: int | None,
    budget: int,
    model: str,
    after: int = 0,
) -> list[TranscriptMessage]:
    """Return the newest messages, oldest first: back to as many questions as `pairs`, while the budget lasts.

    All of them come after the position `after`. They may exceed the budget a little, but never leave out what
    would fit. The cost of reading doesn't grow with the transcript.
    """
    selected: list[TranscriptMessage] = []
    questions = used_tokens = 0
    for message in _backwards(session_id, messages):
        if message.position <= after or (pairs is not None and questions >= pairs) or used_tokens > budget:
            break
        # An unanswered question doesn't count, because the prompt may leave it out.
        questions += (
            message.role == Message.Role.USER and bool(selected) and selected[-1].role != Message.Role.USER
        )
        selected.append(message)
        used_tokens += message.cost(model)
    return selected[::-1]


def _backwards(session_id: UUID, messages: list[TranscriptMessage]) -> Iterator[TranscriptMessage]:
    batch = messages
    while batch:
        yield from reversed(batch)
        if len(batch) < window.MAX_MESSAGES:
            return
        batch = _read(session_id, before=batch[0].position)


def _read(session_id: UUID, *, before: int) -> list[TranscriptMessage]:
    return _transcript_messages(_rows(session_id, before=before))


def _transcript_messages(rows: list[Message]) -> list[TranscriptMessage]:
    return [
        transcript_message_of(row, from_model_turn=row.turn.kind == Turn.Kind.REPLY)
        for row in ephemeral.load_contents(rows)
    ]


def _rows(session_id: UUID, *, before: int) -> list[Message]:
    rows = (
        Message.objects.filter(
            session=session_id, thread="", active=True, erased_at=None, position__lt=before
        )
        .select_related("turn")
        .only(
            "session_id",
            "position",
            "turn_id",
            "item_id",
            "type",
            "role",
            "name",
            "agent",
            "content",
            "item",
            "tokens",
            "turn__kind",
        )
        .order_by("-position")[: window.MAX_MESSAGES]
    )
    return list(rows)[::-1]


def page(
    session: Session, *, after: int | None = None, before: int | None = None, newest_first: bool, size: int
) -> MessagePage:
    """Return the messages next to a position, or at the beginning of the requested order, in that order."""
    transcript = Message.objects.filter(session=session, active=True, erased_at=None).order_by("position")
    rows = transcript.select_related("turn")
    if after is not None:
        rows = rows.filter(position__gt=after)
    if before is not None:
        rows = rows.filter(position__lt=before)
    # The messages next to `after` are the oldest of these, those next to `before` the newest.
    from_the_end = newest_first if (after is None) == (before is None) else before is not None
    messages = sorted(rows.reverse()[:size] if from_the_end else rows[:size], key=lambda row: row.position)
    ephemeral.load_contents(messages)
    return MessagePage(
        messages[::-1] if newest_first else messages,
        has_older=bool(messages) and transcript.filter(position__lt=messages[0].position).exists(),
        has_newer=bool(messages) and transcript.filter(position__gt=messages[-1].position).exists(),
    )


def message_at(session: Session, position: int) -> Message:
    rows = Message.objects.filter(session=session, position=position, active=True, erased_at=None)
    message = rows.select_related("turn").first()
    if message is None:
        raise NotFound(f"This session has no message at position {position}.")
    return ephemeral.load_contents([message])[0]


def messages_of(turn: Turn) -> list[Message]:
    return ephemeral.load_contents(Message.objects.filter(turn=turn, erased_at=None).order_by("position"))


def get_turn(session: Session, number: int) -> Turn:
    rows = Turn.objects.filter(session=session, number=number)
    turn = rows.select_related("parent", "question_turn", "feedback").first()
    if turn is None:
        raise NotFound(f"This session has no turn {number}.")
    turn.session = session
    return turn


def messages_upto(session: Session, position: int) -> list[Message]:
    return ephemeral.load_contents(Message.objects.transcript(session).filter(position__lte=position))


def question_of(turn: Turn) -> list[TranscriptMessage]:
    return [transcript_message_of(row, from_model_turn=True) for row in question_messages(turn)]


def question_messages(turn: Turn) -> list[Message]:
    """Return the messages of a turn's question: only messages that an agent wrote have an agent's name."""
    return ephemeral.load_contents(
        Message.objects.filter(turn=turn, agent="", erased_at=None).order_by("position")
    )


def items_by_id(
    owner: Any, item_ids: Collection[str], *, person_refs: Collection[str] | None = None
) -> dict[str, Message]:
    """Return the owner's stored items with these ids: of several with the same id, the newest.

    With `person_refs`, return only items from sessions of the people with these names ('' is nobody).
    """
    rows = Message.objects.filter(session__owner=owner, item_id__in=item_ids, erased_at=None)
    rows = rows.exclude(session__state=Session.State.DELETED)
    # The contents of an ephemeral session must not enter any other conversation.
    rows = rows.exclude(session__storage=Session.Storage.EPHEMERAL)
    if person_refs is not None:
        rows = rows.filter(session__person__ref__in=person_refs)
    return {row.item_id: row for row in rows.order_by("id")}


def get_item(session: Session, item_id: str) -> Message:
    rows = Message.objects.filter(session=session, item_id=item_id, active=True, erased_at=None)
    row = rows.select_related("turn").first()
    if row is None:
        raise NotFound(f"Item with id '{item_id}' not found.")
    return row


def new_message_of(row: Message) -> NewMessage:
    """Return the message as a draft for another transcript, under the same item id.

    It has no agent there, as it was written elsewhere. A message that is excluded from recall stays excluded.
    """
    return NewMessage(
        role=row.role,
        content=row.content,
        type=row.type,
        name=row.name,
        # The data goes along: the other transcript may be another person's, who has attachments of their own.
        item=with_inline_data([row])[0].item,
        item_id=row.item_id,
        recallable=row.recallable,
    )
