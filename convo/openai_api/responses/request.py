"""Read a request for a response: validate it, and translate it into options of the core."""

from dataclasses import dataclass
from typing import Any

from convo import agents
from convo.conf import conf
from convo.errors import ModelNotFound, UnknownAgent, UnsupportedValue
from convo.models import TurnRequest
from convo.openai_api.body import Body, check_storable, invalid, missing
from convo.openai_api.models import AGENT_PREFIX
from convo.openai_api.tools import check_is_function, chosen_functions
from convo.openai_api.upstream import LOCAL_FIELDS, RESPONSES_ONLY, upstream_fields
from convo.openai_api.view import stores_conversations
from convo.turns import OnBusy

# The fields that a response repeats, and the type that each must have.
_REPEATED_FIELDS: dict[str, type] = {
    "access_programs": dict,
    "context_management": list,
    "image": dict,
    "include": list,
    "model": str,
    "instructions": str,
    "max_output_tokens": int,
    "max_tool_calls": int,
    "parallel_tool_calls": bool,
    "previous_response_id": str,
    "prompt_cache_key": str,
    "prompt_cache_options": dict,
    "prompt_cache_retention": str,
    "reasoning": dict,
    "safety_identifier": str,
    "service_tier": str,
    "store": bool,
    "stream_options": dict,
    "temperature": float,
    "text": dict,
    "tools": list,
    "top_logprobs": int,
    "top_p": float,
    "truncation": str,
    "user": str,
}

# These are not passed on unchanged: some depend on other fields, and no reply here can be spoken.
_NOT_PASSED_ON = LOCAL_FIELDS | RESPONSES_ONLY | {"modalities", "parallel_tool_calls", "top_logprobs"}


def agent_and_model(name: str, param: str = "model") -> tuple[str, str]:
    """Return the agent and the model: `agent/NAME` is an agent, another name goes to the model server."""
    if not name.startswith(AGENT_PREFIX):
        return agents.PASSTHROUGH, name or conf().default_model
    try:
        return agents.get(name.removeprefix(AGENT_PREFIX)).name, ""
    except UnknownAgent as error:
        model_ids = ", ".join(AGENT_PREFIX + agent_name for agent_name in agents.all_agents())
        raise ModelNotFound(
            f"The model '{name}' does not exist. The agents of this server are: {model_ids}.", param=param
        ) from error


@dataclass(frozen=True, kw_only=True)
class ResponseRequest:
    """A validated request for a response, without its input."""

    agent: str
    turn_request: TurnRequest
    stream: bool
    background: bool
    store: bool
    on_busy: str
    conversation_id: str
    previous_response_id: str
    compact_threshold: int = 0  # tokens; 0 for never


def read_response_request(body: Body) -> ResponseRequest:
    agent, model = agent_and_model(body.text("model", max_length=200) or "")
    stream, background = body.boolean("stream"), body.boolean("background")
    store, conversation = (
        body.boolean("store", default=True) and stores_conversations(agent),
        _conversation(body),
    )
    previous = body.text("previous_response_id") or ""
    for name in ("conversation", "previous_response_id"):
        if body.data.get(name) == "":
            # A client that lost an id must get an error, not a conversation without memory.
            raise invalid(name, "it is empty. Leave it out, or name one.")
    if conversation and previous:
        raise invalid(
            "previous_response_id", "it cannot be used in conjunction with `conversation`. Send one of them."
        )
    if body.has("prompt"):
        raise UnsupportedValue(
            "Unsupported value: 'prompt'. Prompts stored at OpenAI can't be read here; send `instructions`.",
            param="prompt",
        )
    if background and not store:
        raise invalid("background", "a background response must be stored. Leave `store` out.")
    repeated_fields: dict[str, Any] = {
        name: body.get(name, json_type) for name, json_type in _REPEATED_FIELDS.items()
    }
    repeated_fields["tool_choice"] = body.data.get("tool_choice")  # checked by _tools_and_choice
    params = {name: value for name, value in repeated_fields.items() if value is not None}
    params["model"] = params.get("model") or conf().default_model
    for name, value in params.items():
        check_storable(value, name)
    turn_request = TurnRequest(
        params=params,
        metadata=body.metadata() or {},
        options=_options(body, model),
        background=background,
        is_stored=store,
    )
    return ResponseRequest(
        agent=agent,
        turn_request=turn_request,
        stream=stream,
        background=background,
        store=store,
        on_busy=body.choice("on_busy", *(choice.value for choice in OnBusy)) or OnBusy.REJECT,
        conversation_id=conversation,
        previous_response_id=previous,
        compact_threshold=_compaction_threshold(body),
    )


def _compaction_threshold(body: Body) -> int:
    """Return the number of prompt tokens above which the conversation is compacted; 0 means never."""
    threshold = 0
    for index, entry in enumerate(body.array("context_management") or []):
        entry_body = Body(entry, f"context_management[{index}]")
        entry_body.choice("type", "compaction")
        entry_body.require("type", str)
        threshold = entry_body.integer("compact_threshold", minimum=1) or threshold
    return threshold


def _conversation(body: Body) -> str:
    if isinstance(body.data.get("conversation"), str):
        return str(body.data["conversation"])
    conversation_body = body.nested("conversation")
    return conversation_body.require("id", str) if conversation_body else ""


def _options(body: Body, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "instructions": body.text("instructions") or "",
        "max_output_tokens": body.integer("max_output_tokens", minimum=1),
        "extra": _upstream_options(body),
    }


def _upstream_options(body: Body) -> dict[str, Any]:
    """Return the fields for the model server, in the form of chat completions."""
    body.choice("truncation", "auto", "disabled")
    tools, tool_choice = _tools_and_choice(body)
    reasoning, text = body.nested("reasoning"), body.nested("text")
    top_logprobs = body.integer("top_logprobs", maximum=20) or None
    translated_fields = {
        "temperature": body.number("temperature", minimum=0, maximum=2),
        "top_p": body.number("top_p", minimum=0, maximum=1),
        "tools": tools or None,
        "tool_choice": tool_choice if tools else None,
        "parallel_tool_calls": body.get("parallel_tool_calls", bool) if tools else None,
        "reasoning_effort": reasoning.text("effort") if reasoning else None,
        "response_format": _response_format(text.nested("format")) if text else None,
        "verbosity": text.text("verbosity") if text else None,
        # In chat completions a separate field turns log probabilities on.
        "top_logprobs": top_logprobs,
        "logprobs": True if top_logprobs else None,
    }
    passed_fields = upstream_fields(body, exclude=_NOT_PASSED_ON)
    return passed_fields | {name: value for name, value in translated_fields.items() if value is not None}


def _tools_and_choice(body: Body) -> tuple[list[dict[str, Any]], str | dict[str, Any] | None]:
    """Return the functions to offer and the one to call, in the form of chat completions."""
    tools: list[dict[str, Any]] = [
        {"type": "function", "function": _function(Body(entry, f"tools[{index}]"))}
        for index, entry in enumerate(body.array("tools") or [])
    ]
    function_choice = chosen_functions(body, {tool["function"]["name"] for tool in tools}, is_nested=False)
    if function_choice is None:
        choice = body.choice("tool_choice", "none", "auto", "required")
        if choice == "required" and not tools:
            raise invalid("tool_choice", "a tool is required, but `tools` offers none.")
        return tools, choice
    mode, names = function_choice
    if mode == "function":
        return tools, {"type": "function", "function": {"name": names[0]}}
    # Few servers support `allowed_tools`; all of them accept a shorter list of tools.
    allowed = set(names)
    return [tool for tool in tools if tool["function"]["name"] in allowed], mode


def _function(tool: Body) -> dict[str, Any]:
    check_is_function(tool)
    return _definition(tool, "parameters")


def _definition(body: Body, schema_field: str) -> dict[str, Any]:
    """Return a function or an output format by its name, with its JSON schema."""
    schema = body.nested(schema_field)
    fields = {
        "name": body.require("name", str),
        "description": body.text("description"),
        schema_field: schema.data if schema else None,
        "strict": body.get("strict", bool),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _response_format(format_body: Body | None) -> dict[str, Any] | None:
    if format_body is None:
        return None
    format_type = format_body.require("type", str)
    if format_type == "text":
        return None
    if format_type == "json_object":
        return {"type": format_type}
    if format_type != "json_schema":
        raise invalid(
            format_body.path_of("type"), f"{format_type!r}. Expected one of: text, json_object, json_schema."
        )
    if not format_body.has("schema"):
        raise missing(format_body.path_of("schema"))
    return {"type": format_type, format_type: _definition(format_body, "schema")}
