"""Read the transcript: the newest messages for a prompt, pages for a person, items by their ids."""

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from convo.errors import NotFound
from convo.history import ephemeral, statements, window
from convo.history.files import attachments
from convo.history.files.content import ItemFields, data_field, parts_of
from convo.history.messages import NewMessage, TranscriptMessage, costs
from convo.models import Message, Session, Turn

# No prompt of usual messages needs more rows at once, and it bounds the memory that they take.
MAX_ROWS = 2000
Row = TypeVar("Row", TranscriptMessage, Message)


@dataclass(frozen=True)
class MessagePage:
    """Some messages in the requested order, and whether there are more on either side."""

    messages: list[Message]
    has_older: bool
    has_newer: bool


def look_up_newest(
    session_id: UUID, version: tuple[int, int], *, upto: int | None = None
) -> tuple[list[TranscriptMessage], bool | None]:
    """Return the newest messages, and whether the hot window had them.

    The flag is None where the window can't have any: for an empty transcript, or with an earlier `upto`.
    """
    if not version[1]:
        return [], None
    messages = window.load(session_id, version)
    if upto is not None and upto < version[1]:
        return _newest_upto(session_id, upto, messages), None
    is_hit = messages is not None
    if messages is None:
        messages, is_ephemeral = _read_newest(session_id, before=version[1] + 1)
        # The contents of an ephemeral session lie in the cache anyway, and are not put there twice.
        if not is_ephemeral:
            window.store(session_id, version, messages)
    return messages, is_hit if messages else None


def _newest_upto(
    session_id: UUID, position: int, window_messages: list[TranscriptMessage] | None
) -> list[TranscriptMessage]:
    if window_messages is None or len(window_messages) == window.MAX_MESSAGES:
        return _read_newest(session_id, before=position + 1)[0]
    # The window has the whole transcript.
    return [message for message in window_messages if message.position <= position]


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
    batch, batch_size = messages, window.MAX_MESSAGES
    while True:
        for message, message_tokens in zip(reversed(batch), costs(reversed(batch), model), strict=True):
            has_all_pairs = pairs is not None and questions >= pairs
            if message.position <= after or has_all_pairs or used_tokens > budget:
                return selected[::-1]
            # An unanswered question doesn't count, because the prompt may leave it out.
            questions += (
                message.role == Message.Role.USER
                and bool(selected)
                and selected[-1].role != Message.Role.USER
            )
            selected.append(message)
            used_tokens += message_tokens
        if len(batch) < batch_size or batch[0].position <= after + 1:
            return selected[::-1]
        if pairs is None:
            batch_size = _rows_to_read(len(selected), used_tokens, budget)
        batch = _read_newest(session_id, after=after, before=batch[0].position, limit=batch_size)[0]


def _rows_to_read(rows: int, row_tokens: int, budget: int) -> int:
    """Return how many more rows will use up the budget, if they are about as long as these rows."""
    expected_rows = rows * (budget - row_tokens) // row_tokens
    # One step for usual lengths; steps of 64 took eight statements for a budget of 16,000 tokens.
    return min(max(expected_rows * 5 // 4, 0) + 16, MAX_ROWS)


def _read_newest(
    session_id: UUID, *, before: int, after: int = 0, limit: int = window.MAX_MESSAGES
) -> tuple[list[TranscriptMessage], bool]:
    """Read the newest messages before a position, and return whether an ephemeral session has their texts."""
    messages = statements.read_newest(session_id, after=after, before=before, limit=limit)
    if not any(map(ephemeral.has_no_text, messages)):
        return messages, False
    page_rows = statements.read_page(session_id, after=after, before=before, newest_first=True, limit=limit)
    return [
        TranscriptMessage.of(row, from_model_turn=row.turn.kind == Turn.Kind.REPLY)
        for row in ephemeral.load_contents(page_rows.messages[::-1])
    ], True


def page(
    session: Session, *, after: int | None = None, before: int | None = None, newest_first: bool, size: int
) -> MessagePage:
    """Return the messages next to a position, or at the beginning of the requested order, in that order.

    Of a message's turn, only what pages show is loaded: its number and its status.
    """
    # The messages next to `after` are the oldest of these, those next to `before` the newest.
    from_the_end = newest_first if (after is None) == (before is None) else before is not None
    rows = statements.read_page(
        session.pk,
        after=statements.BEFORE_ALL if after is None else after,
        before=statements.AFTER_ALL if before is None else before,
        newest_first=from_the_end,
        limit=size + 1,
    )
    # One row more tells whether the messages go on, without another statement.
    messages, goes_on = rows.messages[:size], len(rows.messages) > size
    ephemeral.load_contents(messages)
    return MessagePage(
        messages if from_the_end == newest_first else messages[::-1],
        has_older=rows.has_older or (goes_on and from_the_end),
        has_newer=rows.has_newer or (goes_on and not from_the_end),
    )


def find_session(
    owner: Any, session_id: UUID, *, person_refs: Collection[str] | None = None
) -> Session | None:
    """Return the owner's session; with `person_refs`, only if it is one of these people's."""
    session = statements.find_session(owner.pk, session_id)
    if session is None or (person_refs is not None and session.person.ref not in person_refs):
        return None
    session.owner = owner
    return session


def message_at(session: Session, position: int) -> Message:
    return ephemeral.load_contents([find_message(session, position)])[0]


def find_message(session: Session, position: int) -> Message:
    row = Message.objects.transcript(session).filter(position=position).select_related("turn").first()
    if row is None:
        raise NotFound(f"This session has no message at position {position}.")
    return row


def get_item(session: Session, item_id: str) -> Message:
    row = Message.objects.transcript(session).filter(item_id=item_id).select_related("turn").first()
    if row is None:
        raise NotFound(f"Item with id '{item_id}' not found.")
    return row


def get_turn(session: Session, number: int = 0, *, pk: int | None = None) -> Turn:
    """Return the turn with this number or, if one is given, with this primary key."""
    rows = Turn.objects.filter(session=session, **({"pk": pk} if pk else {"number": number}))
    turn = rows.select_related("parent", "question_turn", "feedback").first()
    if turn is None:
        if pk:
            raise NotFound("This turn no longer exists. Reload the session.")
        raise NotFound(f"This session has no turn {number}.")
    turn.session = session
    return turn


def messages_upto(session: Session, position: int) -> list[Message]:
    return ephemeral.load_contents(Message.objects.transcript(session).filter(position__lte=position))


def messages_of(turn: Turn | int) -> list[Message]:
    return ephemeral.load_contents(Message.objects.filter(turn=turn, erased_at=None).order_by("position"))


def question_of(turn: Turn) -> list[Message]:
    # Only messages that an agent wrote have an agent's name.
    return [row for row in messages_of(turn.question_turn_id or turn.pk) if not row.agent]


def edited_question(turn: Turn, text: str) -> list[NewMessage]:
    """Return the question of a turn with another text, and with the images and files that it had."""
    question = [row for row in question_of(turn) if row.role == Message.Role.USER]
    parts = [part for row in with_inline_data(question) for part in parts_of(row.item)]
    return [NewMessage.from_user(text, [part for part in parts if data_field(part)[0]])]


def with_inline_data(rows: Sequence[Row]) -> list[Row]:
    """Return these messages with the data of their images and files inline, as it came."""
    if not any(row.item for row in rows):
        return list(rows)
    items = attachments.inline_items([row.item for row in rows])
    return [_with_item(row, item) for row, item in zip(rows, items, strict=True)]


def _with_item(row: Row, item: ItemFields | None) -> Row:
    if item is row.item:
        return row
    if isinstance(row, TranscriptMessage):
        return row._replace(item=item)
    row_copy = copy(row)
    row_copy.item = item
    return row_copy


def items_by_id(
    owner: Any, item_ids: Collection[str], *, person_refs: Collection[str] | None = None
) -> dict[str, NewMessage]:
    """Return copies of the owner's stored items with these ids: of several with the same id, of the newest.

    With `person_refs`, return only items from sessions of the people with these names ('' is nobody).
    """
    rows = Message.objects.filter(session__owner=owner, item_id__in=item_ids, erased_at=None)
    rows = rows.exclude(session__state=Session.State.DELETED)
    # The contents of an ephemeral session must not enter any other conversation.
    rows = rows.exclude(session__storage=Session.Storage.EPHEMERAL)
    if person_refs is not None:
        rows = rows.filter(session__person__ref__in=person_refs)
    newest_rows = {row.item_id: row for row in rows.order_by("id")}
    # The data goes along: the other transcript may be another person's, who has attachments of their own.
    return {row.item_id: _copy_of(row) for row in with_inline_data(list(newest_rows.values()))}


def _copy_of(row: Message) -> NewMessage:
    """Return a copy of the message for another transcript, under the same item id.

    It has no agent there, as it was written elsewhere. A message that is excluded from recall stays excluded.
    """
    return NewMessage(
        role=row.role,
        content=row.content,
        type=row.type,
        name=row.name,
        item=row.item,
        item_id=row.item_id,
        recallable=row.recallable,
    )
