"""The input of a response: new items, and those that only are named; checked against what it goes on from."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from convo import history
from convo.errors import InvalidInput, InvalidItem, NotFound
from convo.history import Draft
from convo.http.openai_api import items
from convo.http.openai_api.body import missing, mistyped
from convo.models import Message, Session, Turn

# A call that waits for its output is among the newest: no turn begins before it has it.
_NEWEST = 200
_CALL, _OUTPUT = "function_call", "function_call_output"


def read(given: Any, owner: Any, person: str | None) -> list[Draft]:
    """The messages that this input asks with. An id that the account has stands for the stored item."""
    if given is None:
        raise missing("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise mistyped("input", given, str, list)
    if not given:
        raise missing("input")
    references = [items.reference_of(item) for item in given]
    drafts = [
        Draft(role="", item_id=reference) if reference else items.draft_of(item, f"input[{index}]")
        for index, (item, reference) in enumerate(zip(given, references, strict=True))
    ]
    for draft in drafts:
        if draft.type == "compaction" and not draft.content:
            raise InvalidItem("This compaction was made elsewhere and can't be read here.", param="item")
    ids = [draft.item_id for draft in drafts if draft.item_id]
    for item_id, times in Counter(ids).items():
        if times > 1:
            raise _duplicate(item_id)
    known = history.known(owner, ids, person=person) if ids else {}
    return [_linked(draft, known, f"input[{index}].id") for index, draft in enumerate(drafts)]


def unrepeated(session: Session, question: Sequence[Draft]) -> Sequence[Draft]:
    """The question without what an application says again each time that it brings a tool's output.

    In a conversation the AI SDK does: the user's message and all outputs so far stand before the new ones.
    """
    later = [at for at, draft in enumerate(question) if at and draft.type == _OUTPUT]
    if not later:
        return question
    newest = Message.objects.transcript(session).order_by("-position")[:_NEWEST]
    given = [_said(row) for row in reversed(newest) if not row.agent]
    for new in reversed(later):
        if given[-new:] == [_said(draft) for draft in question[:new]]:
            return question[new:]
    return question


def check_against(question: Sequence[Draft]) -> Callable[[Session], None]:
    """What refuses the session that this input doesn't go with, once it is locked."""

    def check(session: Session) -> None:
        ids = [draft.item_id for draft in question if draft.item_id]
        there = Message.objects.transcript(session).filter(item_id__in=ids).first() if ids else None
        if there:
            raise _duplicate(there.item_id)
        check_pairs(question, before=_newest(session))

    return check


def check_pairs(question: Sequence[Draft], *, before: Sequence[Message]) -> None:
    """Each call has its output behind it, and each output its call before it.

    Outputs on which the model failed, so that nothing stands behind them, may be told again.
    """
    open_calls = dict.fromkeys(_waiting(before[::-1]))
    closed = {row.call_id for row in before if row.type == _CALL and row.call_id not in open_calls}
    unanswered = {row.call_id for row in takewhile(_is_unanswered, reversed(before)) if row.type == _OUTPUT}
    for draft in question:
        call_id = draft.call_id
        if draft.type == _CALL:
            # Some servers give the calls of each turn the same ids again.
            closed.discard(call_id)
            open_calls[call_id] = None
        elif draft.type == _OUTPUT:
            if call_id in closed - unanswered:
                raise InvalidInput(f"The tool call {call_id} has its output already.", param="input")
            if call_id not in open_calls and call_id not in closed:
                raise InvalidInput(
                    f"No tool call found for function call output with call_id {call_id}.", param="input"
                )
            open_calls.pop(call_id, None)
            unanswered.discard(call_id)
            closed.add(call_id)
    for call_id in open_calls:
        raise InvalidInput(f"No tool output found for function call {call_id}.", param="input")


def _is_unanswered(row: Message) -> bool:
    return not row.agent and row.turn.kind == Turn.Kind.REPLY


def _waiting(newest: Sequence[Message]) -> list[str]:
    """The calls that have no output yet, oldest first."""
    found: dict[str, str] = {}
    for row in reversed(newest):
        if row.type in {_CALL, _OUTPUT}:
            found[row.call_id] = row.type
    return [call_id for call_id, last in found.items() if last == _CALL]


def _said(found: Draft | Message) -> tuple[Any, ...]:
    return found.type, found.role, found.content, history.alike(found.item)


def _newest(session: Session) -> list[Message]:
    """As much of the transcript's end as matters for calls, oldest first."""
    rows = Message.objects.transcript(session).select_related("turn").order_by("-position")
    return list(rows.only("type", "item", "agent", "turn__kind")[:_NEWEST])[::-1]


def _linked(draft: Draft, known: dict[str, Message], place: str) -> Draft:
    if row := known.get(draft.item_id):
        return history.draft_of_row(row)
    if not draft.role:
        raise NotFound(f"Item with id '{draft.item_id}' not found.", param=place)
    return draft


def _duplicate(item_id: str) -> InvalidInput:
    return InvalidInput(
        f"Duplicate item found with id {item_id}. Remove duplicate items from your input and try again.",
        param="input",
    )
