"""The Response object: a turn, its request and its reply, with every field, including those that are null."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from convo.errors import ContentFilter, ConvoError, MaxOutputTokens, error_from_json
from convo.models import Message, Turn, TurnRequest
from convo.openai_api.ids import response_id
from convo.openai_api.items import item_json
from convo.openai_api.responses.request import RepeatedFields
from convo.openai_api.validation import without_nulls

_RESPONSE_STATUSES = {
    Turn.Status.QUEUED: "queued",
    Turn.Status.RUNNING: "in_progress",
    Turn.Status.COMPLETE: "completed",
    Turn.Status.PARTIAL: "failed",
    Turn.Status.FAILED: "failed",
    Turn.Status.CANCELLED: "cancelled",
}
_LIMIT_CODES = {MaxOutputTokens.code, ContentFilter.code}

# A response repeats these fields of its request, or has these defaults.
_DEFAULTS: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}

# Options that a response repeats only if they were sent.
_REPEATED_IF_SENT = sorted(
    RepeatedFields.model_fields.keys() - _DEFAULTS.keys() - {"model", "reasoning", "text", "tools"}
)


def response_json(
    turn: Turn, turn_request: TurnRequest, messages: Sequence[Message], *, conversation: str | None
) -> dict[str, Any]:
    """Render the response as it is now. The field `conversation` exists only if there is one."""
    status = _status(turn)
    fields = {
        "id": response_id(turn),
        "object": "response",
        "created_at": _seconds(turn.created_at),
        "status": status,
        "background": turn_request.background,
        "completed_at": _seconds(turn.finished_at) if status == "completed" else None,
        "error": _error_json(turn) if status == "failed" else None,
        "incomplete_details": {"reason": _error_code(turn)} if status == "incomplete" else None,
        "metadata": turn_request.metadata or {},
        "model": turn_request.params.get("model") or turn.model,
        "output": _output_json(messages, status),
        **_request_fields(turn_request.params),
        "moderation": None,
        "usage": _usage_json(turn),
        **({"conversation": {"id": conversation}} if conversation else {}),
    }
    # PostgreSQL stores keys in an order of its own, and a replay must equal the first answer: sort them.
    sorted_fields = json.loads(json.dumps(fields, sort_keys=True))
    return {name: sorted_fields[name] for name in fields}


def _status(turn: Turn) -> str:
    # A limit may be reached before the first token: the turn has failed, but its response is incomplete.
    if turn.status in {Turn.Status.PARTIAL, Turn.Status.FAILED} and _error_code(turn) in _LIMIT_CODES:
        return "incomplete"
    return _RESPONSE_STATUSES[Turn.Status(turn.status)]


def _error_code(turn: Turn) -> str:
    return str((turn.error or {}).get("code", ""))


def _error_json(turn: Turn) -> dict[str, str]:
    """Render the error. Strict clients know few codes, so Convo's own becomes the one that comes nearest."""
    error = error_from_json(turn.error or {})
    message = error.message
    if error.status == 429:
        # A Response object has no Retry-After, so clients parse this sentence.
        message = f"{message} Please try again in {math.ceil(error.retry_after or 0)}s."
    return {"code": _openai_code(error), "message": message, "type": error.type}


def _openai_code(error: ConvoError) -> str:
    status = error.v1_status or error.status
    if status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if status < 500 else "server_error"


def _output_json(messages: Sequence[Message], status: str) -> list[dict[str, Any]]:
    items = [item_json(message) for message in messages]
    if items and status in {"incomplete", "failed", "cancelled"}:
        # Items are written one after the other, so only the last one can have been cut off.
        items[-1] = {**items[-1], "status": "incomplete"}
    return items


def _request_fields(params: Mapping[str, Any]) -> dict[str, Any]:
    sent_params = without_nulls(params)
    tier = sent_params.get("service_tier", "auto")
    text_fields = without_nulls(sent_params.get("text", {}))
    return {
        **{name: sent_params.get(name, default) for name, default in _DEFAULTS.items()},
        # `auto` is only a request; a response names the tier that was used.
        "service_tier": "default" if tier == "auto" else tier,
        "reasoning": {"effort": None, "summary": None, **sent_params.get("reasoning", {})},
        "text": {"format": {"type": "text"}, "verbosity": "medium", **text_fields},
        "tools": [_tool_json(tool) for tool in sent_params.get("tools", [])],
        **{name: sent_params[name] for name in _REPEATED_IF_SENT if name in sent_params},
    }


def _tool_json(tool: dict[str, Any]) -> dict[str, Any]:
    """Return the tool as it was sent, with the keys that strict clients require of a function."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, **tool, "strict": bool(tool.get("strict"))}


def _usage_json(turn: Turn) -> dict[str, Any] | None:
    if turn.input_tokens is None:
        return None
    return usage_json(turn.input_tokens, turn.output_tokens or 0, cached=turn.cached_tokens or 0)


def usage_json(input_tokens: int, output_tokens: int, *, cached: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }


def _seconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) if moment else None
