"""Read a chat completions request: the agent, the fields for the model server, and Convo's own options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convo.errors import InvalidRequest
from convo.models import TurnRequest
from convo.openai_api.body import Body, check_storable, invalid, missing, require_type
from convo.openai_api.chat.messages import validate_messages
from convo.openai_api.responses.request import agent_and_model
from convo.openai_api.tools import check_is_function, chosen_functions
from convo.openai_api.upstream import LOCAL_FIELDS, upstream_fields
from convo.turns import OnBusy

MAX_MODEL_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A validated request for a chat completion, with or without a session."""

    agent: str
    messages: Sequence[Mapping[str, Any]]
    on_busy: str
    params: Mapping[str, Any]
    metadata: Mapping[str, str]
    options: Mapping[str, Any]

    @property
    def store(self) -> bool:
        return bool(self.params.get("store"))

    def turn_request(self, **options: Any) -> TurnRequest:
        """Return the unsaved row that records this request with its turn.

        `options` add to the options of the runner: the instructions in a session, the whole prompt without
        one.
        """
        return TurnRequest(
            surface=TurnRequest.Surface.COMPLETION,
            params=self.params,
            metadata=self.metadata,
            options={**self.options, **options},
            is_stored=self.store,
        )


def read_chat_request(body: Body) -> ChatRequest:
    agent, model = _resolve_model(body.require("model", str))
    messages = validate_messages(body)
    _check_unsupported(body)
    for name, value in body.data.items():
        check_storable(value, name)
    extra = upstream_fields(body, exclude=LOCAL_FIELDS)
    _check_tools(body)
    limit = body.integer("max_completion_tokens", minimum=1)
    limit = limit or body.integer("max_tokens", minimum=1)
    body.boolean("store")
    body.boolean("stream")
    if stream_options := body.nested("stream_options"):
        stream_options.boolean("include_usage")
    return ChatRequest(
        agent=agent,
        messages=messages,
        on_busy=body.choice("on_busy", *OnBusy) or OnBusy.REJECT,
        # Texts of a conversation are stored in its items only: deleting an item removes its text everywhere.
        params={name: value for name, value in body.data.items() if name not in {"messages", "metadata"}},
        metadata=body.metadata() or {},
        options={"model": model, "max_output_tokens": limit, "extra": extra},
    )


def _resolve_model(model: str) -> tuple[str, str]:
    """Return the agent and the model it asks: '' for an agent of this server, which has its own."""
    if not model or len(model) > MAX_MODEL_LENGTH or not model.isprintable():
        raise invalid("model", f"a model's name has 1 to {MAX_MODEL_LENGTH} printable characters.")
    return agent_and_model(model)


def _check_unsupported(body: Body) -> None:
    """Refuse options that the reply could not honour, instead of ignoring them."""
    if (body.integer("n", minimum=1) or 1) > 1:
        raise invalid("n", "only one choice is generated per request. Ask again for another one.")
    for index, modality in enumerate(body.array("modalities") or ()):
        if require_type(modality, str, f"modalities[{index}]") != "text":
            raise invalid(
                f"modalities[{index}]",
                f"{modality!r}. Expected 'text': replies with audio are not supported.",
            )
    if body.has("functions") and body.data.get("function_call") != "none":
        raise InvalidRequest(
            "Invalid 'functions': this deprecated field is not supported. Send `tools`.", param="functions"
        )


def _check_tools(body: Body) -> None:
    function_names: set[str] = set()
    for index, entry in enumerate(body.array("tools") or ()):
        tool = Body(entry, f"tools[{index}]")
        check_is_function(tool)
        function = tool.nested("function")
        if function is None:
            raise missing(tool.path_of("function"))
        function_names.add(function.require("name", str))
    chosen_functions(body, function_names, is_nested=True)
