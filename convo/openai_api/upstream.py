"""Fields of a request that are passed to the model server unchanged."""

from collections.abc import Collection
from typing import Any

from convo.openai_api.body import Body, check_storable, wrong_type

# A value of the wrong type is refused here; the model server judges everything else.
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "frequency_penalty": (int, float),
    "presence_penalty": (int, float),
    "seed": (int,),
    "stop": (str, list),
    "logit_bias": (dict,),
    "logprobs": (bool,),
    "top_logprobs": (int,),
    "tools": (list,),
    "tool_choice": (str, dict),
    "parallel_tool_calls": (bool,),
    "response_format": (dict,),
    "reasoning_effort": (str,),
    "verbosity": (str,),
    "prediction": (dict,),
    "service_tier": (str,),
    "prompt_cache_key": (str,),
    "prompt_cache_options": (dict,),
    "prompt_cache_retention": (str,),
    "moderation": (dict,),
    "web_search_options": (dict,),
}
# Fields of chat completions that are not passed on: those that Convo handles itself, those that identify
# the end user, and those with results that this server's answers cannot hold.
LOCAL_FIELDS = frozenset(
    {
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
        "audio",
        "functions",
        "function_call",
    }
)
# Fields of the Responses API that chat completions lack or express in another form.
RESPONSES_ONLY = frozenset(
    {
        "access_programs",
        "background",
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "previous_response_id",
        "prompt",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    }
)


def upstream_fields(body: Body, *, exclude: Collection[str]) -> dict[str, Any]:
    """Return the fields of this body for the model server: all that are not null and not in `exclude`."""
    fields = {}
    for name, value in body.data.items():
        if value is None or name in exclude:
            continue
        check_storable(value, name)
        if name in _FIELD_TYPES and type(value) not in _FIELD_TYPES[name]:
            raise wrong_type(name, value, *_FIELD_TYPES[name])
        fields[name] = value
    return fields
