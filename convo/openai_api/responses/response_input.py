"""The input of a response: new items and references to stored ones, checked against its session."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from convo import history
from convo.errors import InvalidContinuation, InvalidItem
from convo.history import NewMessage
from convo.history.files import with_hashes
from convo.history.tool_pairs import RESULT, invalid_results, pending_calls
from convo.models import Message, Session
from convo.openai_api import items
from convo.openai_api.validation import missing

# Repeated messages are looked for this far back.
_LOOKBACK = 200


def read_input(value: str | list[Any] | None, owner: Any, people: Collection[str] | None) -> list[NewMessage]:
    """Convert this input to drafts.

    An id that is stored for these people (None: for anybody of this owner) stands for the stored item.
    """
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not value:
        raise missing("input")
    drafts = [items.read_item(item, f"input[{index}]") for index, item in enumerate(value)]
    for draft in drafts:
        if draft.type == "compaction" and not draft.content:
            raise InvalidItem(
                "This compaction comes from another server and can't be read. Send the messages instead.",
                param="item",
            )
    ids = [draft.item_id for draft in drafts if draft.item_id]
    for item_id, count in Counter(ids).items():
        if count > 1:
            raise _duplicate(item_id)
    stored_items = history.items_by_id(owner, ids, person_refs=people) if ids else {}
    return [
        items.resolve_reference(draft, stored_items, f"input[{index}].id")
        for index, draft in enumerate(drafts)
    ]


def without_repetitions(session: Session, question: Sequence[NewMessage]) -> Sequence[NewMessage]:
    """Remove the messages that an application repeats whenever it sends a tool's output.

    The AI SDK does so in a conversation: it sends the user's message and all earlier outputs before the new
    ones.
    """
    output_indexes = [index for index, draft in enumerate(question) if index and draft.type == RESULT]
    if not output_indexes:
        return question
    newest_rows = Message.objects.transcript(session).order_by("-position")[:_LOOKBACK]
    past_input = [_comparable(row) for row in reversed(newest_rows) if not row.agent]
    for start in reversed(output_indexes):
        if past_input[-start:] == [_comparable(draft) for draft in question[:start]]:
            return question[start:]
    return question


def fits_session_check(question: Sequence[NewMessage]) -> Callable[[Session], None]:
    """Return a check that refuses a locked session which this input does not fit."""

    def check(session: Session) -> None:
        ids = [draft.item_id for draft in question if draft.item_id]
        duplicate = Message.objects.transcript(session).filter(item_id__in=ids).first() if ids else None
        if duplicate:
            raise _duplicate(duplicate.item_id)
        for _, reason in invalid_results(session, question):
            raise InvalidContinuation(reason, param="input")
        for call_id in pending_calls(session, question):
            raise InvalidContinuation(f"No tool output found for function call {call_id}.", param="input")

    return check


def _comparable(message: NewMessage | Message) -> tuple[Any, ...]:
    return message.type, message.role, message.content, with_hashes(message.item)


def _duplicate(item_id: str) -> InvalidContinuation:
    return InvalidContinuation(
        f"Duplicate item found with id {item_id}. Remove duplicate items from your input and try again.",
        param="input",
    )
