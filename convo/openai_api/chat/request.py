"""Read a chat completions request: the agent, the fields for the model server, and Convo's own options."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from convo.models import TurnRequest
from convo.openai_api.chat.messages import ChatMessage, validate_message
from convo.openai_api.models import agent_and_model
from convo.openai_api.tools import ChatFunction, chosen_functions
from convo.openai_api.validation import (
    Array,
    Checked,
    JsonObject,
    ModelName,
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
from convo.turns import OnBusy


class StreamOptions(RequestModel):
    include_usage: bool | None = None


class UpstreamFields(RequestModel):
    """Fields for the model server, which validates their values. Only their types are checked here."""

    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: TextOrArray | None = None
    logit_bias: JsonObject | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    tool_choice: TextOrObject | None = None
    parallel_tool_calls: bool | None = None
    response_format: JsonObject | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prediction: JsonObject | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: JsonObject | None = None
    prompt_cache_retention: str | None = None
    moderation: JsonObject | None = None
    web_search_options: JsonObject | None = None


class NewCompletion(PersonFields, UpstreamFields):
    """A request for a chat completion. Fields that are unknown here go to the model server."""

    model: Annotated[ModelName, Field(min_length=1)]
    messages: Annotated[Array[Annotated[JsonObject, Checked(ChatMessage)]], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    on_busy: OnBusyName | None = None
    max_completion_tokens: PositiveInteger | None = None
    max_tokens: PositiveInteger | None = None
    tools: Array[Annotated[dict[str, Any], Checked(ChatFunction)]] | None = None
    n: int | None = None
    modalities: Array[str] | None = None


# These are not passed on: Convo handles them, or they identify the end user, or no reply here can hold their
# results.
LOCAL_FIELDS = NewCompletion.model_fields.keys() - UpstreamFields.model_fields.keys() - {"modalities"}
LOCAL_FIELDS |= {"audio", "function_call", "functions"}


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A validated request for a chat completion, with or without a session."""

    agent: str
    messages: Sequence[Mapping[str, Any]]
    on_busy: str
    turn_request: TurnRequest  # not saved; its options lack the prompt, or the instructions in a session


def read_chat_request(sent_fields: Mapping[str, Any]) -> ChatRequest:
    body = validate(NewCompletion, sent_fields)
    if not body.model.isprintable():
        raise invalid("model", "the name of a model may contain only printable characters.")
    agent, model = agent_and_model(body.model)
    for index, message in enumerate(body.messages):
        validate_message(message, f"messages[{index}]")
    _check_unsupported(body, sent_fields)
    for name, value in sent_fields.items():
        if name != "messages":  # checked one by one
            check_storable(value, name)
    if isinstance(body.tool_choice, dict):
        chosen_functions(
            body.tool_choice, ChatFunction, {tool["function"]["name"] for tool in body.tools or ()}
        )
    return ChatRequest(
        agent=agent,
        messages=sent_fields["messages"],
        on_busy=body.on_busy or OnBusy.REJECT,
        turn_request=TurnRequest(
            surface=TurnRequest.Surface.COMPLETION,
            # Texts of a conversation are stored in its items only: deleting an item removes its text
            # everywhere.
            params={
                name: value for name, value in sent_fields.items() if name not in {"messages", "metadata"}
            },
            metadata=body.metadata or {},
            options={
                "model": model,
                "max_output_tokens": body.max_completion_tokens or body.max_tokens,
                "extra": upstream_fields(sent_fields, exclude=LOCAL_FIELDS),
            },
            is_stored=bool(body.store),
        ),
    )


def upstream_fields(sent_fields: Mapping[str, object], *, exclude: Collection[str]) -> JsonObject:
    """Return the fields of a request for the model server: all that are not null and not in `exclude`."""
    return {name: value for name, value in without_nulls(sent_fields).items() if name not in exclude}


def _check_unsupported(body: NewCompletion, sent_fields: Mapping[str, Any]) -> None:
    """Refuse options that the reply could not honour, instead of ignoring them."""
    if body.n not in {None, 1}:
        raise invalid("n", "only one choice is generated per request. Ask again for another one.")
    for index, modality in enumerate(body.modalities or ()):
        if modality != "text":
            raise invalid(f"modalities[{index}]", "expected 'text': replies with audio are not supported.")
    if sent_fields.get("functions") is not None and sent_fields.get("function_call") != "none":
        raise invalid("functions", "this deprecated field is not supported. Send `tools`.")
