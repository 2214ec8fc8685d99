"""The Response object: a turn, what was asked for with it, and its reply, with every field and every null."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from convo.errors import ContentFilter, ConvoError, MaxOutputTokens, by_code
from convo.http.openai_api.ids import response_id
from convo.http.openai_api.items import item_json
from convo.models import Asked, Message, Turn

_STATUS = {
    Turn.Status.QUEUED: "queued",
    Turn.Status.RUNNING: "in_progress",
    Turn.Status.COMPLETE: "completed",
    Turn.Status.PARTIAL: "failed",
    Turn.Status.FAILED: "failed",
    Turn.Status.CANCELLED: "cancelled",
}
_LIMITS = {MaxOutputTokens.code, ContentFilter.code}

# What was asked for is told again; where nothing was, this.
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


def response_json(
    turn: Turn, asked: Asked, messages: Sequence[Message], *, conversation: str | None
) -> dict[str, Any]:
    """The response as it is now. Its conversation is told only where one was given."""
    status = _status(turn)
    whole = {
        "id": response_id(turn),
        "object": "response",
        "created_at": _seconds(turn.created_at),
        "status": status,
        "background": asked.background,
        "completed_at": _seconds(turn.finished_at) if status == "completed" else None,
        "error": _error(turn) if status == "failed" else None,
        "incomplete_details": {"reason": _code(turn)} if status == "incomplete" else None,
        "metadata": asked.metadata or asked.params.get("metadata") or {},
        "model": asked.params.get("model") or turn.model,
        "output": _output(messages, status),
        **_echo(asked.params),
        "moderation": None,
        "usage": _usage(turn),
        **({"conversation": {"id": conversation}} if conversation else {}),
    }
    # Keys in one order: PostgreSQL keeps another one than it was given, and a replay must tell the same.
    steady = json.loads(json.dumps(whole, sort_keys=True))
    return {name: steady[name] for name in whole}


def _status(turn: Turn) -> str:
    # A limit may be reached before the first word: such a turn has failed, its response is incomplete.
    if turn.status in {Turn.Status.PARTIAL, Turn.Status.FAILED} and _code(turn) in _LIMITS:
        return "incomplete"
    return _STATUS[Turn.Status(turn.status)]


def _code(turn: Turn) -> str:
    return str((turn.error or {}).get("code", ""))


def _error(turn: Turn) -> dict[str, str]:
    """Why it failed. Strict clients know few codes: ours is told by the one that comes nearest."""
    kind = by_code(_code(turn))
    message = (turn.error or {}).get("message") or kind().message
    return {"code": _known_code(kind), "message": message, "type": kind.type}


def _known_code(kind: type[ConvoError]) -> str:
    if kind.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if kind.status < 500 else "server_error"


def _output(messages: Sequence[Message], status: str) -> list[dict[str, Any]]:
    items = [item_json(message) for message in messages]
    if items and status in {"incomplete", "failed", "cancelled"}:
        # Items come one after the other, so it is the last one that was broken off.
        items[-1] = {**items[-1], "status": "incomplete"}
    return items


def _echo(params: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in params.items() if value is not None}
    tier = given.get("service_tier", "auto")
    return {
        **{name: given.get(name, default) for name, default in _DEFAULTS.items()},
        # `auto` is a wish; an answer names the tier that it was.
        "service_tier": "default" if tier == "auto" else tier,
        "reasoning": {"effort": None, "summary": None, **given.get("reasoning", {})},
        "text": {"format": {"type": "text"}, "verbosity": "medium", **_set(given.get("text", {}))},
        "tools": [_tool(tool) for tool in given.get("tools", [])],
    }


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as it was given; strict clients look for these keys of a function, and for a yes or no."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, **tool, "strict": bool(tool.get("strict"))}


def _set(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _usage(turn: Turn) -> dict[str, Any] | None:
    """What it cost in tokens, which is known when it has ended."""
    if turn.input_tokens is None:
        return None
    return spent_json(turn.input_tokens, turn.output_tokens or 0, cached=turn.cached_tokens or 0)


def spent_json(read: int, written: int, *, cached: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def _seconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) if moment else None
