"""Fields of a request that are passed to the model server unchanged."""

from collections.abc import Collection, Mapping
from typing import Any

from convo.openai_api.validation import (
    JsonObject,
    RequestModel,
    TextOrArray,
    TextOrObject,
    without_nulls,
)


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


def upstream_fields(sent_fields: Mapping[str, object], *, exclude: Collection[str]) -> JsonObject:
    """Return the fields of a request for the model server: all that are not null and not in `exclude`."""
    return {name: value for name, value in without_nulls(sent_fields).items() if name not in exclude}
