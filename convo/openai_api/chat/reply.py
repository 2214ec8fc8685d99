"""Replies in the form of chat completions: whole, or in chunks while they are written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring as encode_text
from typing import Any

from rest_framework.response import Response

from convo.errors import ContentFilter, ConvoError, MaxOutputTokens, NotAuthenticated
from convo.events import Delta
from convo.http.answer import Reply, result_or_raise
from convo.http.errors import v1_envelope
from convo.models import Message, ReplyItem, Session, Turn, TurnRequest
from convo.openai_api import ids
from convo.openai_api.view import error_response
from convo.turns import Outcome, TurnResult

SESSION_HEADER = "X-Convo-Session"
DONE = b"data: [DONE]\n\n"
_FINISH_REASONS = {MaxOutputTokens.code: "length", ContentFilter.code: "content_filter"}
_MESSAGE_FIELDS = {
    ReplyItem.MESSAGE: "content",
    ReplyItem.REFUSAL: "refusal",
    ReplyItem.REASONING: "reasoning_content",
}


@dataclass(kw_only=True)
class CompletionReply(Reply):
    """A chat completion. A client that disconnects stops the turn: clients have no other way.

    With `begins_session`, a client must not retry a failed turn: it would begin two sessions. In chunks,
    calls are numbered; the first chunk has the role, the last one the reason.
    """

    turn_request: TurnRequest
    begins_session: bool

    def __post_init__(self) -> None:
        params = self.turn_request.params
        self._model, self.is_streamed = str(params["model"]), bool(params.get("stream"))
        self._include_usage = bool((params.get("stream_options") or {}).get("include_usage"))
        self._shared_fields = _shared_fields(self.turn, self._model, "chat.completion.chunk")
        self._is_started = False
        self._calls: list[int] = []
        # A chunk with text of this kind, cut where the text stands.
        self._templates: dict[str, tuple[str, str]] = {}

    @property
    def headers(self) -> Mapping[str, str]:
        session = self.turn.session
        is_conversation = session.kind == Session.Kind.CONVERSATION
        return {SESSION_HEADER: ids.conversation_id(session)} if is_conversation else {}

    def whole(self, ending: Outcome) -> Response:
        return Response(completion_json(result_or_raise(ending), self._model))

    def failure(self, error: ConvoError) -> Response:
        response = error_response(error)
        if self.begins_session:
            response["x-should-retry"] = "false"
        return response

    async def first_events(self) -> bytes:
        return b""

    def delta_events(self, deltas: Sequence[Delta]) -> bytes:
        return b"".join(map(self._delta_event, deltas))

    def last_events(self, ending: Outcome) -> bytes:
        """Render the last chunks. A reply that broke off ends with an error, and so without `[DONE]`."""
        try:
            turn = result_or_raise(ending).turn
        except ConvoError as error:
            # The headers have been sent, so the seconds of Retry-After follow the error in the body.
            wait = {} if error.retry_after is None else {"retry_after": error.retry_after}
            return _encode_event({**v1_envelope(error), **wait})
        return b"".join(map(_encode_event, self._last_chunks(turn))) + DONE

    def access_error(self, error: NotAuthenticated) -> bytes:
        return _encode_event(v1_envelope(error))

    def _delta_event(self, delta: Delta) -> bytes:
        if not self._is_started or delta.kind == ReplyItem.CALL:
            return _encode_event(self._delta_chunk(delta))
        before, after = self._templates.get(delta.kind) or self._template(delta.kind)
        return f"{before}{encode_text(delta.text)}{after}".encode()

    def _template(self, kind: str) -> tuple[str, str]:
        event = _encode_event(self._chunk({_MESSAGE_FIELDS[kind]: "\0"})).decode()
        before, _, after = event.rpartition('"\\u0000"')
        self._templates[kind] = before, after
        return before, after

    def _delta_chunk(self, delta: Delta) -> dict[str, Any]:
        is_call = delta.kind == ReplyItem.CALL
        return self._chunk(
            self._with_role(self._tool_call(delta) if is_call else {_MESSAGE_FIELDS[delta.kind]: delta.text})
        )

    def _last_chunks(self, turn: Turn) -> Iterator[dict[str, Any]]:
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


def completion_json(result: TurnResult, model: str) -> dict[str, Any]:
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


def _shared_fields(turn: Turn, model: str, kind: str) -> dict[str, Any]:
    created = int(turn.created_at.timestamp())
    return {"id": ids.completion_id(turn), "object": kind, "created": created, "model": model}


def _merge_rows(rows: Sequence[Message]) -> dict[str, Any]:
    texts: dict[str, list[str]] = {}
    for row in rows:
        kind = ReplyItem.REFUSAL if _is_refusal(row) else row.type
        texts.setdefault(kind, []).append(row.reply_text)
    fields = {name: "".join(texts[kind]) for kind, name in _MESSAGE_FIELDS.items() if kind in texts}
    calls = [tool_call_json(row) for row in rows if row.type == ReplyItem.CALL]
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


def tool_call_json(row: Message) -> dict[str, Any]:
    function = {"name": row.name, "arguments": row.reply_text}
    return {"id": row.call_id, "type": "function", "function": function}


def _finish_reason(turn: Turn, *, has_calls: bool) -> str:
    limit_reason = _FINISH_REASONS.get((turn.error or {}).get("code", ""))
    return limit_reason or ("tool_calls" if has_calls else "stop")


def _encode_event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
