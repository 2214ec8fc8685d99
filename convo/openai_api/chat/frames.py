"""Replies in the form of chat completions: whole, or in chunks while they are written."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from convo import turns
from convo.errors import ContentFilter, ConvoError, MaxOutputTokens, NotAuthenticated
from convo.events import Delta
from convo.http import sse
from convo.http.credentials import Credentials
from convo.http.errors import v1_envelope
from convo.models import Message, ReplyItem, Turn
from convo.openai_api import ids
from convo.turns import TurnLog, TurnResult

DONE = b"data: [DONE]\n\n"
_FINISH_REASONS = {MaxOutputTokens.code: "length", ContentFilter.code: "content_filter"}
_MESSAGE_FIELDS = {
    ReplyItem.MESSAGE: "content",
    ReplyItem.REFUSAL: "refusal",
    ReplyItem.REASONING: "reasoning_content",
}


def completion_json(result: TurnResult, model: str) -> dict[str, Any]:
    """Render the completion of an ended turn, or raise the turn's failure."""
    if failure := result.failure:
        raise failure
    message = _merge_rows(result.messages)
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _finish_reason(result.turn, has_calls="tool_calls" in message),
    }
    usage = usage_json(result.turn)
    return {**_shared_fields(result.turn, model, "chat.completion"), "choices": [choice], "usage": usage}


def usage_json(turn: Turn) -> dict[str, Any]:
    prompt_tokens, completion_tokens = turn.input_tokens or 0, turn.output_tokens or 0
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": turn.cached_tokens or 0},
    }


async def completion_frames(
    turn: Turn, model: str, log: TurnLog, credentials: Credentials, *, include_usage: bool
) -> AsyncIterator[bytes]:
    """Yield the completion in chunks. One that breaks off ends with an error, and so without `[DONE]`."""
    chunks = _Chunks(turn, model, include_usage=include_usage)
    try:
        async for batch in sse.read(log, credentials):
            yield b"".join(_sse_event(chunks.for_delta(delta)) for delta in batch) or sse.HEARTBEAT
    except NotAuthenticated as error:
        yield _sse_event(v1_envelope(error))
        return
    ending = await turns.wait_for_ending(turn, log)
    failure = ending if isinstance(ending, ConvoError) else ending.failure
    if failure or isinstance(ending, ConvoError):
        turn_error = failure or ConvoError()
        # The headers have been sent, so the seconds of Retry-After follow the error in the body.
        wait = {} if turn_error.retry_after is None else {"retry_after": turn_error.retry_after}
        yield _sse_event({**v1_envelope(turn_error), **wait})
        return
    yield b"".join(map(_sse_event, chunks.final(ending.turn))) + DONE


class _Chunks:
    """The chunks of one completion. Calls are numbered; the first has the role, the last the reason."""

    def __init__(self, turn: Turn, model: str, *, include_usage: bool) -> None:
        self._shared_fields = _shared_fields(turn, model, "chat.completion.chunk")
        self._include_usage = include_usage
        self._is_started = False
        self._calls: list[int] = []

    def for_delta(self, delta: Delta) -> dict[str, Any]:
        fields = (
            self._tool_call(delta)
            if delta.kind == ReplyItem.CALL
            else {_MESSAGE_FIELDS[delta.kind]: delta.text}
        )
        return self._chunk(self._with_role(fields))

    def final(self, turn: Turn) -> Iterator[dict[str, Any]]:
        if not self._is_started:
            yield self._chunk(self._with_role({"content": ""}))
        yield self._chunk({}, _finish_reason(turn, has_calls=bool(self._calls)))
        if self._include_usage:
            yield {**self._shared_fields, "choices": [], "usage": usage_json(turn)}

    def _with_role(self, fields: dict[str, Any]) -> dict[str, Any]:
        if self._is_started:
            return fields
        self._is_started = True
        return {"role": "assistant", "content": None, **fields}

    def _tool_call(self, delta: Delta) -> dict[str, Any]:
        is_new = delta.item not in self._calls
        if is_new:
            self._calls.append(delta.item)
        function = {"name": delta.name, "arguments": delta.text} if is_new else {"arguments": delta.text}
        call_fields = {"id": delta.call_id, "type": "function"} if is_new else {}
        index = self._calls.index(delta.item)
        return {"tool_calls": [{"index": index, **call_fields, "function": function}]}

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._include_usage else {}
        return {**self._shared_fields, "choices": [choice], **usage}


def _shared_fields(turn: Turn, model: str, kind: str) -> dict[str, Any]:
    created = int(turn.created_at.timestamp())
    return {"id": ids.completion_id(turn), "object": kind, "created": created, "model": model}


def _merge_rows(rows: Sequence[Message]) -> dict[str, Any]:
    texts: dict[str, list[str]] = {}
    for row in rows:
        kind = ReplyItem.REFUSAL if _is_refusal(row) else row.type
        texts.setdefault(kind, []).append(row.reply_text)
    fields = {name: "".join(texts[kind]) for kind, name in _MESSAGE_FIELDS.items() if kind in texts}
    calls = [_tool_call_json(row) for row in rows if row.type == ReplyItem.CALL]
    content = None if calls or "refusal" in fields else ""
    return {
        "role": "assistant",
        "content": content,
        "refusal": None,
        **fields,
        **({"tool_calls": calls} if calls else {}),
    }


def _is_refusal(row: Message) -> bool:
    parts = (row.item or {}).get("content") or ()
    return row.type == ReplyItem.MESSAGE and any(part.get("type") == "refusal" for part in parts)


def _tool_call_json(row: Message) -> dict[str, Any]:
    function = {"name": row.name, "arguments": row.reply_text}
    return {"id": row.call_id, "type": "function", "function": function}


def _finish_reason(turn: Turn, *, has_calls: bool) -> str:
    limit_reason = _FINISH_REASONS.get((turn.error or {}).get("code", ""))
    return limit_reason or ("tool_calls" if has_calls else "stop")


def _sse_event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
