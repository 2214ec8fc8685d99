"""The growing reply of a running turn: stream events go in, deltas and messages come out."""

import secrets
import time
from dataclasses import dataclass, field

from convo import llm, tokens
from convo.errors import ContentFilter, ConvoError, MaxOutputTokens, UpstreamProtocolError
from convo.events import Delta, delta_of
from convo.llm.reply_parser import is_json
from convo.models import ReplyItem


@dataclass
class ReplyBuilder:
    """The reply of the model so far, item by item.

    The items follow one another. If a server writes two tool calls at once, the later one waits until the
    arguments of the first are complete.
    """

    items: list[ReplyItem] = field(default_factory=list)
    usage: llm.Usage | None = None
    finish_reason: str = ""
    unknown_finish_reason: str = ""  # a finish word that `llm` does not know
    model: str = ""
    prompt_tokens: int = 0
    started_at: float = field(default_factory=time.monotonic)
    first_token_at: float | None = None
    _calls: dict[int, ReplyItem] = field(default_factory=dict)
    _waiting_calls: list[ReplyItem] = field(default_factory=list)

    def add(self, event: llm.StreamEvent) -> list[Delta]:
        deltas: list[Delta] = []
        match event:
            case llm.TextDelta():
                deltas = self._open_waiting_calls() if self._waiting_calls else []
                deltas.append(self._add_text(event))
            case llm.ToolCallDelta():
                deltas = self._add_call(event)
            case llm.Usage():
                self.usage = event
            case llm.Finish():
                deltas, self.finish_reason = self._open_waiting_calls(), event.reason
                self.unknown_finish_reason = event.unknown_word
        if self.first_token_at is None and deltas:
            self.first_token_at = time.monotonic()
        return deltas

    def _add_text(self, event: llm.TextDelta) -> Delta:
        if not self.items or self.items[-1].kind != event.kind:
            self.items.append(ReplyItem(event.kind, index=len(self.items)))
        return self._extend_last_item(event.text)

    def _add_call(self, event: llm.ToolCallDelta) -> list[Delta]:
        call = self._calls.get(event.index)
        if call is None or (event.call_id and event.call_id != call.call_id):
            # Some servers give every call the same index, and tell them apart by their ids.
            call_id = event.call_id or f"call_{secrets.token_hex(12)}"
            call = self._calls[event.index] = ReplyItem(ReplyItem.CALL, call_id, event.name)
            self._waiting_calls.append(call)
        if call in self._waiting_calls:
            call.chunks.append(event.arguments)
            return self._open_ready_calls()
        if call is self.items[-1]:
            return [self._extend_last_item(event.arguments), *self._open_ready_calls()]
        if event.arguments.strip():
            raise UpstreamProtocolError("The model server added to a tool call that was complete already.")
        return []

    def _extend_last_item(self, text: str) -> Delta:
        item = self.items[-1]
        item.chunks.append(text)
        return delta_of(item, len(item.chunks) - 1)

    def _open_ready_calls(self) -> list[Delta]:
        """Open the waiting calls, as far as the calls before them are complete."""
        deltas: list[Delta] = []
        while self._waiting_calls and (
            not self.items or self.items[-1].kind != ReplyItem.CALL or is_json(self.items[-1].text)
        ):
            deltas += self._open_call(self._waiting_calls.pop(0))
        return deltas

    def _open_waiting_calls(self) -> list[Delta]:
        waiting_calls, self._waiting_calls = self._waiting_calls, []
        return [delta for call in waiting_calls for delta in self._open_call(call)]

    def _open_call(self, call: ReplyItem) -> list[Delta]:
        call.index = len(self.items)
        self.items.append(call)
        chunks, call.chunks = call.chunks, []
        return [self._extend_last_item(chunk) for chunk in chunks]

    @property
    def delta_count(self) -> int:
        return sum(len(item.chunks) for item in self.items)

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.items)

    @property
    def limit(self) -> ConvoError | None:
        return {"length": MaxOutputTokens(), "content_filter": ContentFilter()}.get(self.finish_reason)

    def items_to_store(self, *, is_broken: bool) -> list[ReplyItem]:
        """Return the items to store: of a broken reply not the calls, which may be incomplete."""
        return [item for item in self.items if item.is_usable_in_part] if is_broken else self.items

    def tokens(self) -> tuple[int, int, int]:
        """Return the input, output and cached tokens; counted here if the model server sent no usage."""
        if self.usage:
            return self.usage.input_tokens, self.usage.output_tokens, self.usage.cached_tokens
        return self.prompt_tokens, tokens.count(self.text, self.model), 0
