"""What a request for a response asks for: read once, checked, and translated into the core's words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convo import agents
from convo.conf import conf
from convo.errors import ModelNotFound, UnknownAgent
from convo.http.openai_api.body import Body, check_storable, invalid, missing
from convo.http.openai_api.models import AGENT
from convo.http.openai_api.view import keeps
from convo.models import Asked
from convo.turns import OnBusy

# The fields that a response tells again, and of what type each must be.
_TOLD: dict[str, type] = {
    "context_management": list,
    "model": str,
    "instructions": str,
    "max_output_tokens": int,
    "max_tool_calls": int,
    "parallel_tool_calls": bool,
    "previous_response_id": str,
    "prompt_cache_key": str,
    "prompt_cache_retention": str,
    "reasoning": dict,
    "safety_identifier": str,
    "service_tier": str,
    "store": bool,
    "temperature": float,
    "text": dict,
    "tools": list,
    "top_logprobs": int,
    "top_p": float,
    "truncation": str,
    "user": str,
}


def agent_and_model(name: str, place: str = "model") -> tuple[str, str]:
    """Who answers for this model: `agent/NAME` is one of ours, another name passes through to the server."""
    if not name.startswith(AGENT):
        return agents.PASSTHROUGH, name or conf().default_model
    try:
        return agents.get(name.removeprefix(AGENT)).name, ""
    except UnknownAgent as error:
        known = ", ".join(AGENT + other for other in agents.everyone())
        raise ModelNotFound(
            f"The model '{name}' does not exist. Of this server's own there are: {known}.", param=place
        ) from error


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A request for a response, but for its input."""

    agent: str
    asked: Asked
    stream: bool
    background: bool
    store: bool
    on_busy: str
    conversation: str
    previous: str
    compact_at: int = 0  # tokens; 0 for never


def wanted(body: Body) -> Wanted:
    """What this body asks for, or the mistake in it."""
    agent, model = agent_and_model(body.text("model", most=200) or "")
    stream, background = body.flag("stream"), body.flag("background")
    store, conversation = body.flag("store", default=True) and keeps(agent), _conversation(body)
    previous = body.text("previous_response_id") or ""
    for name in ("conversation", "previous_response_id"):
        if body.given.get(name) == "":
            # A client that lost an id must hear of it, not of a conversation without a memory.
            raise invalid(name, "it is empty. Leave it out, or name one.")
    if conversation and previous:
        raise invalid(
            "previous_response_id", "it cannot be used in conjunction with `conversation`. Send one of them."
        )
    if background and not store:
        raise invalid("background", "a background response must be stored. Leave `store` out.")
    told: dict[str, Any] = {name: body.get(name, kind) for name, kind in _TOLD.items()}
    told["tool_choice"] = body.given.get("tool_choice")  # checked with the wishes
    params = {name: value for name, value in told.items() if value is not None}
    params["model"] = params.get("model") or conf().default_model
    for name, value in params.items():
        check_storable(value, name)
    asked = Asked(
        params=params,
        metadata=body.metadata() or {},
        wishes=_wishes(body, model),
        background=background,
        retrievable=store,
    )
    return Wanted(
        agent=agent,
        asked=asked,
        stream=stream,
        background=background,
        store=store,
        on_busy=body.choice("on_busy", *(choice.value for choice in OnBusy)) or OnBusy.REJECT,
        conversation=conversation,
        previous=previous,
        compact_at=_compact_at(body),
    )


def _compact_at(body: Body) -> int:
    """From how many tokens on a prompt is told in short."""
    least = 0
    for index, entry in enumerate(body.entries("context_management") or []):
        managed = Body(entry, f"context_management[{index}]")
        managed.choice("type", "compaction")
        managed.need("type", str)
        least = managed.whole("compact_threshold", least=1) or least
    return least


def _conversation(body: Body) -> str:
    if isinstance(body.given.get("conversation"), str):
        return str(body.given["conversation"])
    named = body.inner("conversation")
    return named.need("id", str) if named else ""


def _wishes(body: Body, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "instructions": body.text("instructions") or "",
        "max_output_tokens": body.whole("max_output_tokens", least=1),
        "extra": _extra(body),
    }


def _extra(body: Body) -> dict[str, Any]:
    """The fields that the model server gets, in the words of chat completions."""
    body.choice("truncation", "auto", "disabled")
    tools, choice = function_tools(body), _tool_choice(body)
    reasoning, text = body.inner("reasoning"), body.inner("text")
    extra = {
        "temperature": body.number("temperature", least=0, most=2),
        "top_p": body.number("top_p", least=0, most=1),
        "tools": tools or None,
        "tool_choice": choice if tools else None,
        "parallel_tool_calls": body.get("parallel_tool_calls", bool) if tools else None,
        "reasoning_effort": reasoning.text("effort") if reasoning else None,
        "response_format": _response_format(text.inner("format")) if text else None,
        "verbosity": text.text("verbosity") if text else None,
    }
    return {name: value for name, value in extra.items() if value is not None}


def function_tools(body: Body) -> list[dict[str, Any]]:
    """The tools that a chat completions server can be told of; those that only OpenAI runs are left out."""
    found = []
    for index, entry in enumerate(body.entries("tools") or []):
        tool = Body(entry, f"tools[{index}]")
        if tool.need("type", str) == "function":
            found.append({"type": "function", "function": _function(tool)})
    return found


def _function(tool: Body) -> dict[str, Any]:
    parameters = tool.inner("parameters")
    given = {
        "name": tool.need("name", str),
        "description": tool.text("description"),
        "parameters": parameters.given if parameters else None,
        "strict": tool.get("strict", bool),
    }
    return {name: value for name, value in given.items() if value is not None}


def _tool_choice(body: Body) -> str | dict[str, Any] | None:
    if not isinstance(body.given.get("tool_choice"), Mapping):
        return body.choice("tool_choice", "none", "auto", "required")
    choice = Body(body.given["tool_choice"], "tool_choice")
    if choice.need("type", str) == "function":
        return {"type": "function", "function": {"name": choice.need("name", str)}}
    # Of tools that only OpenAI runs nothing is left to choose.
    return "required" if choice.text("mode") == "required" else None


def _response_format(format: Body | None) -> dict[str, Any] | None:
    if format is None:
        return None
    kind = format.need("type", str)
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": kind}
    if kind != "json_schema":
        raise invalid(format.place("type"), f"{kind!r}. Expected one of: text, json_object, json_schema.")
    if not format.has("schema"):
        raise missing(format.place("schema"))
    schema = format.inner("schema")
    given = {
        "name": format.need("name", str),
        "description": format.text("description"),
        "schema": schema.given if schema else None,
        "strict": format.get("strict", bool),
    }
    return {"type": kind, kind: {name: value for name, value in given.items() if value is not None}}
