"""The events of a streamed response: pure functions of its deltas, so the live stream equals every replay."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import UUID

from convo.errors import ConvoError
from convo.events import Delta
from convo.models import ReplyItem, reply_item_id

Event = dict[str, Any]

# Fields that are unknown, or not reported yet, when a response begins.
_INITIAL_FIELDS: dict[str, Any] = {
    "output": [],
    "usage": None,
    "error": None,
    "incomplete_details": None,
    "completed_at": None,
}
# The last event, by the response's status. OpenAI has none for cancelled ones; clients know a failure.
_LAST_EVENTS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    "cancelled": "response.failed",
}
# The name of an item's delta events, and the field of its last event that holds the whole text.
_ITEM_EVENTS = {
    ReplyItem.MESSAGE: ("response.output_text", "text"),
    ReplyItem.REFUSAL: ("response.refusal", "refusal"),
    ReplyItem.REASONING: ("response.reasoning_text", "text"),
    ReplyItem.CALL: ("response.function_call_arguments", "arguments"),
}
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
# JSON does not escape these characters, and some stream parsers take them for the end of a line.
_LINE_ENDS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"}


def encode_event(event: Event) -> bytes:
    """Encode one event for the wire, with its data on one line."""
    line = _encoder.encode(event)
    if not line.isascii():
        line = line.translate(_LINE_ENDS)
    return f"event: {event['type']}\ndata: {line}\n\n".encode()


def events_after(events: Iterable[Event], after: int) -> Iterator[Event]:
    """Yield the events after number `after`.

    A client may have received more than was saved of a reply that broke off, or of one that was deleted in
    part since. It still gets the last event, under the next number.
    """
    for event in events:
        number, type = event["sequence_number"], event["type"]
        if number > after:
            yield event
        elif type == "response.failed" or (type in _LAST_EVENTS.values() and number < after):
            yield {**event, "sequence_number": after + 1}


@dataclass
class _StreamedItem:
    """The item that is being written."""

    id: str
    index: int
    first_delta: Delta
    chunks: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self.first_delta.kind

    @property
    def text(self) -> str:
        return "".join(self.chunks)

    @cached_property
    def delta_event(self) -> Event:
        """The event of each delta, without its number and its text."""
        type = f"{_ITEM_EVENTS[self.kind][0]}.delta"
        return {"type": type, "sequence_number": 0, **self.location, "delta": "", **_logprobs(self)}

    @property
    def location(self) -> dict[str, Any]:
        """The fields that locate a delta. A call has no content parts."""
        part = {} if self.kind == ReplyItem.CALL else {"content_index": 0}
        return {"item_id": self.id, "output_index": self.index, **part}

    @property
    def content_part(self) -> dict[str, Any]:
        match self.kind:
            case ReplyItem.REFUSAL:
                return {"type": "refusal", "refusal": self.text}
            case ReplyItem.REASONING:
                return {"type": "reasoning_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}

    def json(self, status: str) -> dict[str, Any]:
        """Render the item as it is now. An item that has only begun has no part yet."""
        content = [] if status == "in_progress" else [self.content_part]
        match self.kind:
            case ReplyItem.CALL:
                delta = self.first_delta
                call_fields = {"call_id": delta.call_id, "name": delta.name, "arguments": self.text}
                return {"id": self.id, "type": "function_call", **call_fields, "status": status}
            case ReplyItem.REASONING:
                reasoning_fields = {"summary": [], "content": content}
                return {"id": self.id, "type": "reasoning", **reasoning_fields, "status": status}
        message_fields = {"role": "assistant", "status": status, "content": content}
        return {"id": self.id, "type": "message", **message_fields}


class ResponseEvents:
    """The events of one response, numbered from 0, made from the deltas of its reply."""

    def __init__(self, key: UUID, response: Mapping[str, Any]) -> None:
        self._key = key
        # A replay must begin like the live stream, so results that the response already has are removed.
        self._response = {**response, **_INITIAL_FIELDS}
        self._next_number = 0
        self._announced_ids: set[str] = set()
        self._open_item: _StreamedItem | None = None

    def begin(self, items: Sequence[Mapping[str, Any]] = ()) -> list[Event]:
        """Return the events that announce the response, and those of items before the model's output."""
        is_queued = bool(self._response.get("background"))
        events = [self._response_event("created", "queued" if is_queued else "in_progress")]
        if is_queued:
            events.append(self._response_event("queued", "queued"))
        events.append(self._response_event("in_progress", "in_progress"))
        return [*events, *(event for item in items for event in self._whole_item_events(item))]

    def add_delta(self, delta: Delta) -> list[Event]:
        """Return the events for this delta. The first delta of an item ends the item before it."""
        item, events = self._open_item, []
        if item is None or item.first_delta.item != delta.item:
            events = self._close_item("completed")
            item, start_events = self._start_item(delta)
            events += start_events
        return events + self._extend_item(item, delta.text)

    def end(self, response: Mapping[str, Any]) -> list[Event]:
        """Return the last events, with the whole response. An open item ends with its stored status."""
        last_event = _LAST_EVENTS[response["status"]]
        events = self._close_item(self._stored_status(response))
        if last_event != "response.failed":
            events += [event for item in response["output"] for event in self._whole_item_events(item)]
        return [*events, self._event(last_event, response=dict(response))]

    def refuse(self, error: ConvoError, after: int) -> Event:
        """Return the event for a client with credentials that have expired; the response itself may go on.

        It has the number of the event before it, so a client that returns with a valid key misses nothing.
        """
        number = max(after, self._next_number - 1)
        error_fields = {"code": error.code, "message": error.message, "param": error.param}
        return {"type": "error", "sequence_number": number, **error_fields}

    def _response_event(self, name: str, status: str) -> Event:
        return self._event(f"response.{name}", response={**self._response, "status": status})

    def _start_item(self, delta: Delta) -> tuple[_StreamedItem, list[Event]]:
        # Clients look an item up by its index in the output, so the index is counted here, without gaps.
        index, item_id = len(self._announced_ids), reply_item_id(self._key, delta.item, delta.kind)
        self._announced_ids.add(item_id)
        self._open_item = item = _StreamedItem(item_id, index, delta)
        events = [
            self._event("response.output_item.added", output_index=index, item=item.json("in_progress"))
        ]
        if item.kind != ReplyItem.CALL:
            events.append(self._event("response.content_part.added", **item.location, part=item.content_part))
        return item, events

    def _extend_item(self, item: _StreamedItem, text: str) -> list[Event]:
        item.chunks.append(text)
        # A call may begin without arguments, and some servers send empty deltas: neither makes an event.
        return [{**item.delta_event, "sequence_number": self._take_number(), "delta": text}] if text else []

    def _close_item(self, status: str | None) -> list[Event]:
        """Return the events that end the open item, if there is one. Without a status there are none."""
        item, self._open_item = self._open_item, None
        if item is None or status is None:
            return []
        name, text_field = _ITEM_EVENTS[item.kind]
        events = [self._event(f"{name}.done", **item.location, **{text_field: item.text}, **_logprobs(item))]
        if item.kind != ReplyItem.CALL:
            events.append(self._event("response.content_part.done", **item.location, part=item.content_part))
        done_event = self._event("response.output_item.done", output_index=item.index, item=item.json(status))
        return [*events, done_event]

    def _stored_status(self, response: Mapping[str, Any]) -> str | None:
        """Return the status with which the open item was stored, or None if it was not stored."""
        for item in response["output"]:
            if self._open_item and item["id"] == self._open_item.id:
                return str(item.get("status") or "completed")
        # The item may have been deleted since. Clients accept no completed response with an incomplete item.
        return "completed" if response["status"] == "completed" else None

    def _whole_item_events(self, item: Mapping[str, Any]) -> list[Event]:
        """Return the events of an item without deltas, such as a compaction: all of it at once."""
        if item["id"] in self._announced_ids:
            return []
        index = len(self._announced_ids)
        self._announced_ids.add(item["id"])
        return [
            self._event(f"response.output_item.{name}", output_index=index, item=dict(item))
            for name in ("added", "done")
        ]

    def _event(self, type: str, **fields: Any) -> Event:
        return {"type": type, "sequence_number": self._take_number(), **fields}

    def _take_number(self) -> int:
        number, self._next_number = self._next_number, self._next_number + 1
        return number


def _logprobs(item: _StreamedItem) -> dict[str, Any]:
    """Return the field `logprobs`, which events of output_text must have; it is always empty here."""
    return {"logprobs": []} if item.kind == ReplyItem.MESSAGE else {}
