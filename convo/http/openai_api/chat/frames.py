"""A reply as chat completions tell it: whole, or in chunks while it is written."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from convo import turns
from convo.conf import conf
from convo.errors import ContentFilter, ConvoError, MaxOutputTokens
from convo.events import Delta
from convo.http import sse
from convo.http.errors import v1_envelope
from convo.http.openai_api import ids
from convo.models import Message, Strand, Turn
from convo.turns import Result, TurnLog

DONE = b"data: [DONE]\n\n"
_REASONS = {MaxOutputTokens.code: "length", ContentFilter.code: "content_filter"}
_FIELDS = {Strand.MESSAGE: "content", Strand.REFUSAL: "refusal", Strand.REASONING: "reasoning_content"}


def completion_json(result: Result, model: str) -> dict[str, Any]:
    """The whole answer of a turn that came to its end; what broke off is raised."""
    if failure := result.failure:
        raise failure
    message = _message(result.messages)
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _reason(result.turn, calls="tool_calls" in message),
    }
    usage = usage_json(result.turn)
    return {**_head(result.turn, model, "chat.completion"), "choices": [choice], "usage": usage}


def usage_json(turn: Turn) -> dict[str, Any]:
    asked, spent = turn.input_tokens or 0, turn.output_tokens or 0
    return {
        "prompt_tokens": asked,
        "completion_tokens": spent,
        "total_tokens": asked + spent,
        "prompt_tokens_details": {"cached_tokens": turn.cached_tokens or 0},
    }


async def frames(turn: Turn, model: str, log: TurnLog, *, include_usage: bool) -> AsyncIterator[bytes]:
    """The answer as it comes. One that breaks off ends with an error, and so without `[DONE]`."""
    chunks = _Chunks(turn, model, include_usage=include_usage)
    async for batch in log.follow(beat=conf().sse_heartbeat_seconds):
        yield b"".join(_frame(chunks.of(delta)) for delta in batch) or sse.HEARTBEAT
    ending = await turns.ending(turn, log)
    failure = ending if isinstance(ending, ConvoError) else ending.failure
    if failure or isinstance(ending, ConvoError):
        yield _frame(v1_envelope(failure or ConvoError()))
        return
    yield b"".join(map(_frame, chunks.last(ending.turn))) + DONE


class _Chunks:
    """One answer's chunks: the role first, each call under its number, one reason at the end."""

    def __init__(self, turn: Turn, model: str, *, include_usage: bool) -> None:
        self._head = _head(turn, model, "chat.completion.chunk")
        self._include_usage = include_usage
        self._begun = False
        self._calls: list[int] = []

    def of(self, delta: Delta) -> dict[str, Any]:
        said = self._call(delta) if delta.kind == Strand.CALL else {_FIELDS[delta.kind]: delta.text}
        return self._chunk(self._opened(said))

    def last(self, turn: Turn) -> Iterator[dict[str, Any]]:
        if not self._begun:
            yield self._chunk(self._opened({"content": ""}))
        yield self._chunk({}, _reason(turn, calls=bool(self._calls)))
        if self._include_usage:
            yield {**self._head, "choices": [], "usage": usage_json(turn)}

    def _opened(self, said: dict[str, Any]) -> dict[str, Any]:
        if self._begun:
            return said
        self._begun = True
        return {"role": "assistant", "content": None, **said}

    def _call(self, delta: Delta) -> dict[str, Any]:
        new = delta.item not in self._calls
        if new:
            self._calls.append(delta.item)
        function = {"name": delta.name, "arguments": delta.text} if new else {"arguments": delta.text}
        opening = {"id": delta.call_id, "type": "function"} if new else {}
        index = self._calls.index(delta.item)
        return {"tool_calls": [{"index": index, **opening, "function": function}]}

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._include_usage else {}
        return {**self._head, "choices": [choice], **usage}


def _head(turn: Turn, model: str, kind: str) -> dict[str, Any]:
    created = int(turn.created_at.timestamp())
    return {"id": ids.completion_id(turn), "object": kind, "created": created, "model": model}


def _message(rows: Sequence[Message]) -> dict[str, Any]:
    """The rows of one reply as one message."""
    said: dict[str, list[str]] = {}
    for row in rows:
        kind = Strand.REFUSAL if _is_refusal(row) else row.type
        said.setdefault(kind, []).append(row.reply_text)
    told = {name: "".join(said[kind]) for kind, name in _FIELDS.items() if kind in said}
    calls = [_call(row) for row in rows if row.type == Strand.CALL]
    content = None if calls or "refusal" in told else ""
    return {
        "role": "assistant",
        "content": content,
        "refusal": None,
        **told,
        **({"tool_calls": calls} if calls else {}),
    }


def _is_refusal(row: Message) -> bool:
    parts = (row.item or {}).get("content") or ()
    return row.type == Strand.MESSAGE and any(part.get("type") == "refusal" for part in parts)


def _call(row: Message) -> dict[str, Any]:
    function = {"name": row.name, "arguments": row.reply_text}
    return {"id": row.call_id, "type": "function", "function": function}


def _reason(turn: Turn, *, calls: bool) -> str:
    limit = _REASONS.get((turn.error or {}).get("code", ""))
    return limit or ("tool_calls" if calls else "stop")


def _frame(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
