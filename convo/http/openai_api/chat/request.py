"""A chat completions request, read: who is asked, what goes to the model server, what is for us."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convo.errors import InvalidRequest
from convo.http.openai_api.body import Body, check_storable, invalid, missing, mistyped, of_type
from convo.http.openai_api.chat.messages import checked
from convo.http.openai_api.responses.wanted import agent_and_model
from convo.models import Asked
from convo.turns import OnBusy

LONGEST_MODEL = 200
# Read here and not sent on: what is ours to obey, who is asking, and what this surface can't answer with.
_OURS = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "store",
    "metadata",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "user",
    "safety_identifier",
    "on_busy",
    "logprobs",
    "top_logprobs",
    "audio",
    "functions",
    "function_call",
}
# What is sent on as it was given; only what could not be meant is refused.
_KINDS: dict[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "frequency_penalty": (int, float),
    "presence_penalty": (int, float),
    "seed": (int,),
    "stop": (str, list),
    "logit_bias": (dict,),
    "logprobs": (bool,),
    "tools": (list,),
    "tool_choice": (str, dict),
    "parallel_tool_calls": (bool,),
    "response_format": (dict,),
    "reasoning_effort": (str,),
    "verbosity": (str,),
    "prediction": (dict,),
    "service_tier": (str,),
    "prompt_cache_key": (str,),
    "web_search_options": (dict,),
}


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """What one call wants, whichever way its conversation is carried."""

    agent: str
    messages: Sequence[Mapping[str, Any]]
    stream: bool
    include_usage: bool
    on_busy: str
    params: Mapping[str, Any]
    metadata: Mapping[str, str]
    wishes: Mapping[str, Any]

    @property
    def model(self) -> str:
        """As it was named; answers name it so again."""
        return str(self.params["model"])

    @property
    def store(self) -> bool:
        return bool(self.params.get("store"))

    def asked(self, **wishes: Any) -> Asked:
        """What is kept of it with the turn; `wishes` say how the conversation is carried."""
        return Asked(
            surface=Asked.Surface.COMPLETION,
            params=self.params,
            metadata=self.metadata,
            wishes={**self.wishes, **wishes},
            retrievable=self.store,
        )


def read(body: Body) -> ChatRequest:
    """The request, checked field by field."""
    agent, plain = _answering(body.need("model", str))
    messages = checked(body)
    _check_refused(body)
    for name, value in body.given.items():
        check_storable(value, name)
        if value is not None and name in _KINDS and type(value) not in _KINDS[name]:
            raise mistyped(name, value, *_KINDS[name])
    _check_tools(body)
    limit = body.whole("max_completion_tokens", least=1)
    limit = limit or body.whole("max_tokens", least=1)
    extra = {name: value for name, value in body.given.items() if name not in _OURS and value is not None}
    body.flag("store")
    return ChatRequest(
        agent=agent,
        messages=messages,
        stream=body.flag("stream"),
        include_usage=includes_usage(body),
        on_busy=body.choice("on_busy", *OnBusy) or OnBusy.REJECT,
        # The words of a conversation are in its items alone: what is deleted there is gone.
        params={name: value for name, value in body.given.items() if name not in {"messages", "metadata"}},
        metadata=body.metadata() or {},
        wishes={"model": plain, "max_output_tokens": limit, "extra": extra},
    )


def includes_usage(body: Body) -> bool:
    options = body.inner("stream_options")
    return options is not None and options.flag("include_usage")


def _answering(model: str) -> tuple[str, str]:
    """The agent that answers, and the model that it is to ask: an agent of ours knows that itself."""
    if not model or len(model) > LONGEST_MODEL or not model.isprintable():
        raise invalid("model", f"a model's name has 1 to {LONGEST_MODEL} printable characters.")
    return agent_and_model(model)


def _check_refused(body: Body) -> None:
    """What would be answered otherwise than its caller expects is refused, not passed over."""
    if (body.whole("n", least=1) or 1) > 1:
        raise invalid("n", "one answer is written at a time. Ask again for another one.")
    for index, kind in enumerate(body.entries("modalities") or ()):
        if of_type(kind, str, f"modalities[{index}]") != "text":
            raise invalid(
                f"modalities[{index}]", f"{kind!r}. Expected 'text': answers are never spoken here."
            )
    if body.has("functions") and body.given.get("function_call") != "none":
        raise InvalidRequest(
            "Invalid 'functions': this old form is not taken. Send `tools`.", param="functions"
        )


def _check_tools(body: Body) -> None:
    for index, entry in enumerate(body.entries("tools") or ()):
        tool = Body(entry, f"tools[{index}]")
        tool.need("type", str)
        tool.choice("type", "function")
        function = tool.inner("function")
        if function is None:
            raise missing(tool.place("function"))
        function.need("name", str)
