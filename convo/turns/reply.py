"""The reply as it grows: pieces in, messages out."""

import time
from dataclasses import dataclass, field

from convo import llm, tokens
from convo.errors import ContentFilter, ConvoError, MaxOutputTokens
from convo.history import Draft
from convo.models import new_item_id


@dataclass
class _Call:
    call_id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass
class Reply:
    """All that the model has said in this turn."""

    texts: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    usage: llm.Usage | None = None
    reason: str = ""
    model: str = ""
    prompt_tokens: int = 0
    first_at: float | None = None
    began: float = field(default_factory=time.monotonic)

    def add(self, piece: llm.Piece) -> None:
        """Take in the next piece of the stream."""
        match piece:
            case llm.Text(text=text):
                self.texts.append(text)
            case llm.CallPart(index=index, call_id=call_id, name=name, arguments=arguments):
                call = self.calls.setdefault(index, _Call(call_id, name))
                call.arguments.append(arguments)
            case llm.Usage():
                self.usage = piece
            case llm.Finish(reason=reason):
                self.reason = reason
        if self.first_at is None and isinstance(piece, llm.Text | llm.CallPart):
            self.first_at = time.monotonic()

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def pieces(self) -> list[list[int]]:
        """The lengths of the deltas, a list per item: a replay is cut where the live stream was."""
        texts = [[len(text) for text in self.texts]] if self.texts else []
        return texts + [[len(part) for part in call.arguments] for call in self.calls.values()]

    @property
    def limit(self) -> ConvoError | None:
        """The limit at which the model stopped by itself, if it did."""
        return {"length": MaxOutputTokens(), "content_filter": ContentFilter()}.get(self.reason)

    def drafts(self, agent: str, *, broken: bool) -> list[Draft]:
        """The messages to store. Calls of a broken reply may lack half their arguments: they are left out."""
        texts = [Draft(role="assistant", content=self.text, agent=agent)] if self.text else []
        return texts if broken else texts + [_draft(call, agent) for call in self.calls.values()]

    def tokens(self) -> tuple[int, int, int]:
        """Tokens in, out and cached: the model server's count, or ours where it sent none."""
        if self.usage:
            return self.usage.input_tokens, self.usage.output_tokens, self.usage.cached_tokens
        return self.prompt_tokens, tokens.count(self.text, self.model), 0


def _draft(call: _Call, agent: str) -> Draft:
    item_id = new_item_id("function_call")
    item = {
        "type": "function_call",
        "id": item_id,
        "call_id": call.call_id,
        "name": call.name,
        "arguments": "".join(call.arguments),
        "status": "completed",
    }
    return Draft(
        role="assistant", type="function_call", name=call.name, agent=agent, item=item, item_id=item_id
    )
