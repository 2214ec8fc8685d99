"""Read a request for a response: validate it, and translate it into options of the core."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from convo.conf import conf
from convo.errors import UnsupportedValue
from convo.models import TurnRequest
from convo.openai_api.chat.request import LOCAL_FIELDS, UpstreamFields, upstream_fields
from convo.openai_api.models import agent_and_model
from convo.openai_api.tools import Function, FunctionTool, chosen_functions
from convo.openai_api.validation import (
    Array,
    Checked,
    JsonObject,
    ModelName,
    NonEmpty,
    OnBusyName,
    PersonFields,
    PositiveInteger,
    RequestModel,
    TextOrArray,
    TextOrObject,
    check_storable,
    invalid,
    validate,
    without_nulls,
)
from convo.openai_api.view import stores_conversations


class ReasoningOptions(RequestModel):
    effort: str | None = None


class TextFormat(RequestModel):
    type: Literal["text", "json_object", "json_schema"]


class TextOptions(RequestModel):
    format: TextFormat | None = None
    verbosity: str | None = None


class ContextManagement(RequestModel):
    """The number of prompt tokens above which a conversation is compacted."""

    type: Literal["compaction"]
    compact_threshold: PositiveInteger | None = None


class RepeatedFields(RequestModel):
    """The fields of a request that its response repeats. Some of them have no other effect."""

    access_programs: JsonObject | None = None
    context_management: Array[Annotated[dict[str, Any], Checked(ContextManagement)]] | None = None
    image: JsonObject | None = None
    include: list[object] | None = None
    instructions: str | None = None
    max_output_tokens: PositiveInteger | None = None
    max_tool_calls: int | None = None
    model: ModelName | None = None
    parallel_tool_calls: bool | None = None
    # A client that lost an id must get an error, not a conversation without memory.
    previous_response_id: NonEmpty | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: JsonObject | None = None
    prompt_cache_retention: str | None = None
    reasoning: ReasoningOptions | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    stream_options: JsonObject | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    text: TextOptions | None = None
    tool_choice: TextOrObject | None = None
    tools: Array[Annotated[JsonObject, Checked(FunctionTool)]] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None


class NewResponse(RepeatedFields, UpstreamFields, PersonFields):
    """A request for a response. Fields that are unknown here go to the model server."""

    input: TextOrArray | None = None
    conversation: TextOrObject | None = None
    stream: bool | None = None
    background: bool | None = None
    on_busy: OnBusyName | None = None


class _Conversation(RequestModel):
    id: NonEmpty


class _JsonSchema(RequestModel):
    json_schema: JsonObject = Field(alias="schema")
    name: str
    description: str | None = None
    strict: bool | None = None


# Fields that chat completions lack or express in another form.
RESPONSES_ONLY = NewResponse.model_fields.keys() - UpstreamFields.model_fields.keys() - LOCAL_FIELDS
RESPONSES_ONLY |= {"prompt", "tool_choice", "tools"}
# These are not passed on unchanged: some depend on other fields, and no reply here can be spoken.
_NOT_PASSED_ON = LOCAL_FIELDS | RESPONSES_ONLY | {"modalities", "parallel_tool_calls", "top_logprobs"}


@dataclass(frozen=True, kw_only=True)
class ResponseRequest:
    """A validated request for a response."""

    agent: str
    body: NewResponse
    turn_request: TurnRequest
    conversation_id: str
    compact_threshold: int = 0  # tokens; 0 for never


def read_response_request(sent_fields: Mapping[str, Any]) -> ResponseRequest:
    body = validate(NewResponse, sent_fields)
    agent, model = agent_and_model(body.model or "")
    store = body.store is not False and stores_conversations(agent)
    conversation = _conversation_id(body)
    _check_combinations(body, sent_fields, conversation, is_stored=store)
    sent_params = without_nulls(sent_fields)
    params = {name: value for name, value in sent_params.items() if name in RepeatedFields.model_fields}
    params["model"] = body.model or conf().default_model
    for name, value in sent_params.items():
        if name != "input":  # its items are checked one by one
            check_storable(value, name)
    turn_request = TurnRequest(
        params=params,
        metadata=body.metadata or {},
        options={
            "model": model,
            "instructions": body.instructions or "",
            "max_output_tokens": body.max_output_tokens,
            "extra": _upstream_options(body, sent_fields),
        },
        background=bool(body.background),
        is_stored=store,
    )
    thresholds = [entry.get("compact_threshold") for entry in body.context_management or ()]
    return ResponseRequest(
        agent=agent,
        body=body,
        turn_request=turn_request,
        conversation_id=conversation,
        compact_threshold=next(filter(None, reversed(thresholds)), 0),
    )


def _check_combinations(
    body: NewResponse, sent_fields: Mapping[str, Any], conversation: str, *, is_stored: bool
) -> None:
    if conversation and body.previous_response_id:
        raise invalid(
            "previous_response_id", "it cannot be used in conjunction with `conversation`. Send one of them."
        )
    if sent_fields.get("prompt") is not None:
        raise UnsupportedValue(
            "Unsupported value: 'prompt'. Prompts stored at OpenAI can't be read here; send `instructions`.",
            param="prompt",
        )
    if body.background and not is_stored:
        raise invalid("background", "a background response must be stored. Leave `store` out.")


def _conversation_id(body: NewResponse) -> str:
    if body.conversation == "":
        raise invalid("conversation", "it is empty. Leave it out, or name a conversation.")
    if isinstance(body.conversation, dict):
        return validate(_Conversation, body.conversation, "conversation").id
    return body.conversation or ""


def _upstream_options(body: NewResponse, sent_fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields for the model server, in the form of chat completions."""
    tools, tool_choice = _tools_and_choice(body)
    translated_fields = {
        "tools": tools or None,
        "tool_choice": tool_choice if tools else None,
        "parallel_tool_calls": body.parallel_tool_calls if tools else None,
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
        "response_format": _response_format(body, sent_fields),
        "verbosity": body.text.verbosity if body.text else None,
        # In chat completions a separate field turns log probabilities on.
        "top_logprobs": body.top_logprobs or None,
        "logprobs": True if body.top_logprobs else None,
    }
    return upstream_fields(sent_fields, exclude=_NOT_PASSED_ON) | without_nulls(translated_fields)


def _tools_and_choice(body: NewResponse) -> tuple[list[dict[str, Any]], str | dict[str, Any] | None]:
    """Return the functions to offer and the one to call, in the form of chat completions."""
    tools: list[dict[str, Any]] = [
        {"type": "function", "function": _function(tool)} for tool in body.tools or ()
    ]
    choice = body.tool_choice
    if not isinstance(choice, dict):
        if choice not in {None, "none", "auto", "required"}:
            raise invalid("tool_choice", "expected none, auto, required or an object.")
        if choice == "required" and not tools:
            raise invalid("tool_choice", "a tool is required, but `tools` offers none.")
        return tools, choice
    mode, names = chosen_functions(choice, Function, {tool["function"]["name"] for tool in tools})
    if mode == "function":
        return tools, {"type": "function", "function": {"name": names[0]}}
    # Few servers support `allowed_tools`; all of them accept a shorter list of tools.
    allowed = set(names)
    return [tool for tool in tools if tool["function"]["name"] in allowed], mode


def _function(tool: JsonObject) -> dict[str, Any]:
    fields = without_nulls({name: tool.get(name) for name in FunctionTool.model_fields})
    return {name: value for name, value in fields.items() if name != "type"}


def _response_format(body: NewResponse, sent_fields: Mapping[str, Any]) -> dict[str, Any] | None:
    format_type = body.text.format.type if body.text and body.text.format else "text"
    if format_type == "text":
        return None
    if format_type == "json_object":
        return {"type": format_type}
    definition = validate(_JsonSchema, sent_fields["text"]["format"], "text.format")
    return {"type": format_type, format_type: definition.model_dump(exclude_none=True, by_alias=True)}
