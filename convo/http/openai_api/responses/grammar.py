"""A response as a stream of events: pure, so that the live stream and every replay of it are the same."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from convo.events import Delta
from convo.models import Strand, reply_item_id

Event = dict[str, Any]

# What isn't known yet, or isn't told, when a response begins.
_AT_START: dict[str, Any] = {
    "output": [],
    "usage": None,
    "error": None,
    "incomplete_details": None,
    "completed_at": None,
}
# The last event, by the response's status. None is made for cancelled ones: what clients know is a failure.
_LAST = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    "cancelled": "response.failed",
}
# What the events of an item's pieces are called, and the field that has all of them in the end.
_PIECES = {
    Strand.MESSAGE: ("response.output_text", "text"),
    Strand.REFUSAL: ("response.refusal", "refusal"),
    Strand.REASONING: ("response.reasoning_text", "text"),
    Strand.CALL: ("response.function_call_arguments", "arguments"),
}
# JSON leaves these as they are, and some readers of streams take them for the end of a line.
_LINE_ENDS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"}


def frame(event: Event) -> bytes:
    """One event on the wire: its data is one line."""
    line = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    if not line.isascii():
        line = line.translate(_LINE_ENDS)
    return f"event: {event['type']}\ndata: {line}\n\n".encode()


def unheard(events: Iterable[Event], after: int) -> Iterator[Event]:
    """The events behind the one numbered `after`.

    A reader may have heard more than is kept of a reply that broke off, or was deleted in part since: it is
    told all the same how the response ended.
    """
    for event in events:
        number, type = event["sequence_number"], event["type"]
        if number > after:
            yield event
        elif type == "response.failed" or (type in _LAST.values() and number < after):
            yield {**event, "sequence_number": after + 1}


@dataclass
class _Item:
    """The item that is being written."""

    id: str
    index: int
    first: Delta
    pieces: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self.first.kind

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def place(self) -> dict[str, Any]:
        """Where its pieces belong. A call has no parts."""
        part = {} if self.kind == Strand.CALL else {"content_index": 0}
        return {"item_id": self.id, "output_index": self.index, **part}

    @property
    def part(self) -> dict[str, Any]:
        match self.kind:
            case Strand.REFUSAL:
                return {"type": "refusal", "refusal": self.text}
            case Strand.REASONING:
                return {"type": "reasoning_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}

    def json(self, status: str) -> dict[str, Any]:
        """The item as it is now; one that is only being begun has no part yet."""
        content = [] if status == "in_progress" else [self.part]
        match self.kind:
            case Strand.CALL:
                called = {"call_id": self.first.call_id, "name": self.first.name, "arguments": self.text}
                return {"id": self.id, "type": "function_call", **called, "status": status}
            case Strand.REASONING:
                thought = {"summary": [], "content": content}
                return {"id": self.id, "type": "reasoning", **thought, "status": status}
        said = {"role": "assistant", "status": status, "content": content}
        return {"id": self.id, "type": "message", **said}


class Grammar:
    """One response's events, numbered from 0, out of the deltas of its reply."""

    def __init__(self, key: UUID, response: Mapping[str, Any]) -> None:
        """Of the response only what was asked for counts: a replay begins like the live stream."""
        self._key = key
        self._response = {**response, **_AT_START}
        self._number = 0
        self._told: set[str] = set()
        self._open: _Item | None = None

    def begin(self, items: Sequence[Mapping[str, Any]] = ()) -> list[Event]:
        """That there is a response, to be told first; then the items that stand before its model's words."""
        queued = bool(self._response.get("background"))
        begun = [self._begun("created", "queued" if queued else "in_progress")]
        if queued:
            begun.append(self._begun("queued", "queued"))
        begun.append(self._begun("in_progress", "in_progress"))
        return [*begun, *(event for item in items for event in self._late(item))]

    def feed(self, delta: Delta) -> list[Event]:
        """What this piece of the reply adds; the first one of an item ends the item before."""
        item, events = self._open, []
        if item is None or item.first.item != delta.item:
            events = self._closed("completed")
            item, opening = self._opened(delta)
            events += opening
        return events + self._grown(item, delta.text)

    def end(self, response: Mapping[str, Any]) -> list[Event]:
        """How it ended, with the whole response; the item that was being written ends as it was kept."""
        last = _LAST[response["status"]]
        events = self._closed(self._ended(response))
        if last != "response.failed":
            events += [event for item in response["output"] for event in self._late(item)]
        return [*events, self._event(last, response=dict(response))]

    def _begun(self, name: str, status: str) -> Event:
        return self._event(f"response.{name}", response={**self._response, "status": status})

    def _opened(self, delta: Delta) -> tuple[_Item, list[Event]]:
        # Counted here, for clients look an item up at its place in the output: no number may be left out.
        index, item_id = len(self._told), reply_item_id(self._key, delta.item, delta.kind)
        self._told.add(item_id)
        self._open = item = _Item(item_id, index, delta)
        events = [
            self._event("response.output_item.added", output_index=index, item=item.json("in_progress"))
        ]
        if item.kind != Strand.CALL:
            events.append(self._event("response.content_part.added", **item.place, part=item.part))
        return item, events

    def _grown(self, item: _Item, text: str) -> list[Event]:
        item.pieces.append(text)
        name, _ = _PIECES[item.kind]
        # A call may begin without arguments, and some servers send empty pieces: nothing to tell.
        return [self._event(f"{name}.delta", **item.place, delta=text, **_chances(item))] if text else []

    def _closed(self, status: str | None) -> list[Event]:
        """The end of the open item, if there is one; without a status it is left as it is."""
        item, self._open = self._open, None
        if item is None or status is None:
            return []
        name, whole = _PIECES[item.kind]
        events = [self._event(f"{name}.done", **item.place, **{whole: item.text}, **_chances(item))]
        if item.kind != Strand.CALL:
            events.append(self._event("response.content_part.done", **item.place, part=item.part))
        done = self._event("response.output_item.done", output_index=item.index, item=item.json(status))
        return [*events, done]

    def _ended(self, response: Mapping[str, Any]) -> str | None:
        """The status in which the open item was kept; None when nothing is kept of it."""
        for item in response["output"]:
            if self._open and item["id"] == self._open.id:
                return str(item.get("status") or "completed")
        # Deleted since, maybe: clients take no response for completed while one of its items isn't.
        return "completed" if response["status"] == "completed" else None

    def _late(self, item: Mapping[str, Any]) -> list[Event]:
        """An item that no delta told of (a compaction has none): all of it at once."""
        if item["id"] in self._told:
            return []
        index = len(self._told)
        self._told.add(item["id"])
        return [
            self._event(f"response.output_item.{name}", output_index=index, item=dict(item))
            for name in ("added", "done")
        ]

    def _event(self, type: str, **fields: Any) -> Event:
        number, self._number = self._number, self._number + 1
        return {"type": type, "sequence_number": number, **fields}


def _chances(item: _Item) -> dict[str, Any]:
    """The field that output_text's events must have. No probabilities are asked for."""
    return {"logprobs": []} if item.kind == Strand.MESSAGE else {}
