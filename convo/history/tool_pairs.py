"""Find out which tool result belongs to which tool call.

A result belongs to the newest call with its id that has no result yet: some model servers give the calls of
every reply the same ids. Among several calls with one id in one reply, the first is answered first. A result
for which no call is left repeats the last one with its id: it is sent again because the model failed on it.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from django.db.models import Max, Q

from convo.models import Message, Session, Turn

CALL, RESULT = "function_call", "function_call_output"
# Calls without a result are among this many newest messages: no reply is written until they have one.
_MESSAGES_SEARCHED = 200
# A gap in the numbers keeps new calls from counting as part of the stored reply before them.
_GAP = 2


class ToolItem(Protocol):
    """A message, as far as pairing is concerned."""

    @property
    def type(self) -> str: ...

    @property
    def call_id(self) -> str | None: ...


@dataclass
class Pairs:
    """The pairs among messages, by their positions, or by other ascending numbers."""

    results: dict[int, int] = field(default_factory=dict)  # from a call to its latest result
    calls: dict[int, int] = field(default_factory=dict)  # from a result to its call
    earlier_results: dict[int, int] = field(default_factory=dict)  # from a repeated result to the one before
    orphans: set[int] = field(default_factory=set)  # calls without a result and results without a call


@dataclass
class _Calls:
    """The calls with one id that have no result yet, grouped by reply, the newest reply last."""

    waiting: list[tuple[int, deque[int]]] = field(default_factory=list)
    last_answered: int | None = None

    def add(self, reply: int, position: int) -> None:
        if not self.waiting or self.waiting[-1][0] != reply:
            self.waiting.append((reply, deque()))
        self.waiting[-1][1].append(position)

    def take(self) -> int | None:
        """Return the call that the next result belongs to; None if every call has a result."""
        if not self.waiting:
            return None
        self.last_answered = self.waiting[-1][1].popleft()
        if not self.waiting[-1][1]:
            self.waiting.pop()
        return self.last_answered


def pair(items: Iterable[tuple[int, ToolItem]]) -> Pairs:
    """Pair the calls and results among messages, which come with ascending positions, or other numbers."""
    pairs = Pairs()
    calls_by_id: defaultdict[tuple[str, str], _Calls] = defaultdict(_Calls)
    # Calls at consecutive positions were made in one reply, which is identified by the first of them. The
    # first call continues none: no position follows -2.
    reply = last_call = -2
    for position, item in items:
        if not item.call_id:
            continue
        kind = item.type.removesuffix("_output")
        calls = calls_by_id[kind.removesuffix("_call"), item.call_id]
        if kind == item.type:
            reply, last_call = (reply if position == last_call + 1 else position), position
            calls.add(reply, position)
            pairs.orphans.add(position)
            continue
        call = calls.take()
        if call is None and calls.last_answered is not None:
            call = calls.last_answered
            pairs.earlier_results[position] = pairs.results[call]
        if call is None:
            pairs.orphans.add(position)
            continue
        pairs.orphans.discard(call)
        pairs.results[call], pairs.calls[position] = position, call
    return pairs


def invalid_results(session: Session | None, messages: Sequence[ToolItem]) -> Iterator[tuple[int, str]]:
    """Yield the index of each result among these new messages that has to be refused, and the reason.

    A result may be sent again while no reply and no recorded message comes after it.
    """
    call_ids = {message.call_id for message in messages if message.type == RESULT}
    if not call_ids:
        return
    stored_items = _tool_items(session, item__call_id__in=list(call_ids)) if session else []
    start = stored_items[-1][0] + _GAP if stored_items else 0
    pairs = pair([*stored_items, *enumerate(messages, start)])
    final_position = _last_position_outside_questions(session) if session and pairs.earlier_results else 0
    for position, message in enumerate(messages, start):
        if message.type != RESULT:
            continue
        earlier = pairs.earlier_results.get(position)
        if position in pairs.orphans:
            reason = f"No tool call found for function call output with call_id {message.call_id}."
            yield position - start, reason
        elif earlier is not None and not final_position < earlier < start:
            yield position - start, f"The tool call {message.call_id} already has an output."


def pending_calls(session: Session, messages: Sequence[ToolItem]) -> list[str]:
    """Return the ids of calls without a result, near the session's end or among these new messages."""
    newest = Message.objects.transcript(session).order_by("-position").values("pk")[:_MESSAGES_SEARCHED]
    stored_items = _tool_items(session, pk__in=newest)
    items: list[tuple[int, ToolItem]] = [*stored_items, *enumerate(messages, session.last_position + _GAP)]
    unpaired_positions = pair(items).orphans
    return [
        str(item.call_id) for position, item in items if position in unpaired_positions and item.type == CALL
    ]


@dataclass(frozen=True)
class _StoredItem:
    """The columns of a stored call or result that pairing needs."""

    type: str
    call_id: str


def _tool_items(session: Session, **conditions: object) -> list[tuple[int, ToolItem]]:
    if session.last_position == session.base_position:
        return []
    rows = Message.objects.transcript(session).filter(type__in=(CALL, RESULT), **conditions)
    values = rows.values_list("position", "type", "item__call_id")
    return [(position, _StoredItem(type, call_id)) for position, type, call_id in values]


def _last_position_outside_questions(session: Session) -> int:
    """Return the position of the newest message that isn't part of a question: a reply, or a recorded one."""
    rows = Message.objects.transcript(session).exclude(Q(agent="") & Q(turn__kind=Turn.Kind.REPLY))
    return rows.aggregate(last=Max("position"))["last"] or 0
