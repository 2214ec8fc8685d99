"""The reply as it grows: pieces in, deltas and messages out."""

import json
import secrets
import time
from dataclasses import dataclass, field

from convo import history, llm, tokens
from convo.errors import ContentFilter, ConvoError, MaxOutputTokens, UpstreamProtocolError
from convo.events import Delta, delta_of
from convo.models import Strand


@dataclass
class Reply:
    """All that the model has said in this turn, item by item.

    Items come one after the other. A server may write two calls at once: then the later one waits until the
    arguments of the first are whole.
    """

    strands: list[Strand] = field(default_factory=list)
    usage: llm.Usage | None = None
    reason: str = ""
    model: str = ""
    prompt_tokens: int = 0
    first_at: float | None = None
    began: float = field(default_factory=time.monotonic)
    _calls: dict[int, Strand] = field(default_factory=dict)
    _waiting: list[Strand] = field(default_factory=list)

    def add(self, piece: llm.Piece) -> list[Delta]:
        """Take in the next piece of the stream; what it adds to the reply."""
        deltas: list[Delta] = []
        match piece:
            case llm.Text():
                deltas = [*self._open_waiting(), *self._word(piece)]
            case llm.CallPart():
                deltas = self._call(piece)
            case llm.Usage():
                self.usage = piece
            case llm.Finish():
                deltas, self.reason = self._open_waiting(), piece.reason
        if self.first_at is None and deltas:
            self.first_at = time.monotonic()
        return deltas

    def _word(self, piece: llm.Text) -> list[Delta]:
        if not self.strands or self.strands[-1].kind != piece.kind:
            self.strands.append(Strand(piece.kind, index=len(self.strands)))
        return [self._grown(piece.text)]

    def _call(self, part: llm.CallPart) -> list[Delta]:
        call = self._calls.get(part.index)
        if call is None or (part.call_id and part.call_id != call.call_id):
            # Some servers give every call the same index, and tell them apart by their ids.
            call_id = part.call_id or f"call_{secrets.token_hex(12)}"
            call = self._calls[part.index] = Strand(Strand.CALL, call_id, part.name)
            self._waiting.append(call)
        if call in self._waiting:
            call.parts.append(part.arguments)
            return self._open_next()
        if call is self.strands[-1]:
            return [self._grown(part.arguments), *self._open_next()]
        if part.arguments.strip():
            raise UpstreamProtocolError("The model server went back to a tool call that was whole already.")
        return []

    def _grown(self, text: str) -> Delta:
        """One piece more of the last item."""
        last = self.strands[-1]
        last.parts.append(text)
        return delta_of(last, len(last.parts) - 1)

    def _open_next(self) -> list[Delta]:
        """Begin the calls that wait, as far as the ones before them are whole."""
        deltas: list[Delta] = []
        while self._waiting and (
            not self.strands or self.strands[-1].kind != Strand.CALL or _is_json(self.strands[-1].text)
        ):
            deltas += self._opened(self._waiting.pop(0))
        return deltas

    def _open_waiting(self) -> list[Delta]:
        waiting, self._waiting = self._waiting, []
        return [delta for call in waiting for delta in self._opened(call)]

    def _opened(self, call: Strand) -> list[Delta]:
        call.index = len(self.strands)
        self.strands.append(call)
        parts, call.parts = call.parts, []
        return [self._grown(part) for part in parts]

    @property
    def said(self) -> int:
        """How many deltas there are."""
        return sum(len(strand.parts) for strand in self.strands)

    @property
    def text(self) -> str:
        """All of its items, one after the other."""
        return "".join(strand.text for strand in self.strands)

    @property
    def limit(self) -> ConvoError | None:
        """The limit at which the model stopped by itself, if it did."""
        return {"length": MaxOutputTokens(), "content_filter": ContentFilter()}.get(self.reason)

    def kept(self, *, broken: bool) -> list[Strand]:
        """The items to store."""
        return history.kept_of(self.strands) if broken else self.strands

    def tokens(self) -> tuple[int, int, int]:
        """Tokens in, out and cached: the model server's count, or ours where it sent none."""
        if self.usage:
            return self.usage.input_tokens, self.usage.output_tokens, self.usage.cached_tokens
        return self.prompt_tokens, tokens.count(self.text, self.model), 0


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
