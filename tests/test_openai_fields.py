"""What of a request reaches the model server, what is told again, and what is refused (Review 22)."""

import asyncio
import json
import traceback
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses import ToolParam
from openai.types.responses.response_create_params import ResponseCreateParamsBase
from pydantic import ValidationError
from websockets.exceptions import InvalidStatus

from convo.errors import InvalidRequest
from convo.models import Session
from convo.openai_api.chat.request import LOCAL_FIELDS, NewCompletion
from convo.openai_api.conversations import NewItems
from convo.openai_api.embeddings import NewEmbeddings
from convo.openai_api.responses.request import RESPONSES_ONLY, NewResponse
from convo.openai_api.tools import HOSTED_TOOLS
from convo.openai_api.validation import RequestModel, validate
from tests.faults import GRANIAN, OtherServer
from tests.responses import WEATHER, ask, client, env_of, events
from tests.servers import Server
from tests.support.openai import refused
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

MODEL = "words-2"
SPEECH: Any = {"type": "function", "name": "speak", "parameters": None, "strict": False, "description": None}
ALWAYS = {"model", "messages", "stream", "stream_options"}


def nested(tool: dict[str, Any]) -> dict[str, Any]:
    """A function as chat completions have it."""
    function = {name: value for name, value in tool.items() if name != "type" and value is not None}
    return {"type": "function", "function": function}


def chat(raw: httpx2.Client, **fields: Any) -> httpx2.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}
    return raw.post("/v1/chat/completions", json=body)


def respond(raw: httpx2.Client, path: str = "responses", **fields: Any) -> httpx2.Response:
    return raw.post(f"/v1/{path}", json={"model": MODEL, "input": "hi", **fields})


# Tools.


def types_of(tool: Any) -> set[str]:
    """What the `type` of this tool may be, by the client's own types."""
    hint = get_type_hints(tool)["type"]
    while inner := get_args(hint):
        if all(isinstance(value, str) for value in inner):
            return set(inner)
        hint = inner[0]
    raise AssertionError(f"{tool} has no type.")


def test_the_list_of_hosted_tools_has_all_that_the_client_knows() -> None:
    known: set[str] = set().union(*(types_of(tool) for tool in get_args(ToolParam)))
    assert known - {"function"} <= HOSTED_TOOLS
    # The one more is named by `tool_choice` alone.
    assert HOSTED_TOOLS - known <= {"computer_use"}


def test_a_tool_that_nobody_here_runs_is_refused_by_its_name(raw: httpx2.Client, upstream: Upstream) -> None:
    for kind in sorted(HOSTED_TOOLS):
        hosted = {"type": kind, "server_label": "x", "name": "x"}
        for path in ("responses", "responses/input_tokens"):
            answer = respond(raw, path, tools=[WEATHER, hosted])
            assert f"'{kind}'" in refused(answer, 400, "unsupported_value", "tools[1].type")
        answer = chat(raw, tools=[hosted])
        assert f"'{kind}'" in refused(answer, 400, "unsupported_value", "tools[0].type")
    refused(respond(raw, tools=[{"type": "riddle"}]), 400, "invalid_value", "tools[0].type")
    refused(chat(raw, tools=[{"type": "riddle"}]), 400, "invalid_value", "tools[0].type")
    assert not upstream.heard
    assert not Session.objects.exists()
    assert respond(raw, tools=[WEATHER]).status_code == 200
    assert chat(raw, tools=[nested(WEATHER)]).status_code == 200


def test_a_stored_prompt_is_refused(raw: httpx2.Client, upstream: Upstream) -> None:
    refused(respond(raw, prompt={"id": "pmpt_1"}), 400, "unsupported_value", "prompt")
    assert not upstream.heard
    assert respond(raw, prompt=None).status_code == 200


@pytest.mark.parametrize(
    ("choice", "code", "param"),
    [
        ({"type": "function", "name": "sing"}, "invalid_value", "tool_choice"),
        ({"type": "function"}, "missing_required_parameter", "tool_choice.name"),
        ({"type": "web_search_preview"}, "unsupported_value", "tool_choice.type"),
        ({"type": "mcp", "server_label": "x"}, "unsupported_value", "tool_choice.type"),
        ({"type": "shell"}, "unsupported_value", "tool_choice.type"),
        ({"type": "custom", "name": "weather"}, "unsupported_value", "tool_choice.type"),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "sing"}]},
            "invalid_value",
            "tool_choice",
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "image_generation"}]},
            "unsupported_value",
            "tool_choice.tools[0].type",
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "invalid_value", "tool_choice.tools"),
        (
            {"type": "allowed_tools", "tools": [{"type": "function", "name": "weather"}]},
            "missing_required_parameter",
            "tool_choice.mode",
        ),
    ],
)
def test_only_a_function_that_is_offered_can_be_chosen(
    raw: httpx2.Client, upstream: Upstream, choice: dict[str, Any], code: str, param: str
) -> None:
    refused(respond(raw, tools=[WEATHER], tool_choice=choice), 400, code, param)
    assert not upstream.heard


@pytest.mark.parametrize(
    ("choice", "code", "param"),
    [
        ({"type": "function", "function": {"name": "sing"}}, "invalid_value", "tool_choice"),
        ({"type": "function"}, "missing_required_parameter", "tool_choice.function"),
        ({"type": "custom", "custom": {"name": "weather"}}, "unsupported_value", "tool_choice.type"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [nested(WEATHER), {"type": "function", "function": {"name": "sing"}}],
                },
            },
            "invalid_value",
            "tool_choice",
        ),
        ({"type": "allowed_tools"}, "missing_required_parameter", "tool_choice.allowed_tools"),
    ],
)
def test_only_a_function_that_is_offered_can_be_chosen_in_a_chat(
    raw: httpx2.Client, upstream: Upstream, choice: dict[str, Any], code: str, param: str
) -> None:
    refused(chat(raw, tools=[nested(WEATHER)], tool_choice=choice), 400, code, param)
    assert not upstream.heard


def test_without_tools_none_can_be_chosen(raw: httpx2.Client, upstream: Upstream) -> None:
    for choice in ("required", {"type": "function", "name": "weather"}):
        refused(respond(raw, tool_choice=choice), 400, "invalid_value", "tool_choice")
    function = {"type": "function", "function": {"name": "weather"}}
    refused(chat(raw, tool_choice=function), 400, "invalid_value", "tool_choice")
    assert not upstream.heard
    for choice in ("none", "auto"):
        assert respond(raw, tool_choice=choice).status_code == 200


def test_a_choice_among_the_offered_is_obeyed(alices: OpenAI, raw: httpx2.Client, upstream: Upstream) -> None:
    tools: Any = [WEATHER, SPEECH]
    one: Any = {"type": "function", "name": "speak"}
    assert ask(alices, "hi", tools=tools, tool_choice=one).tool_choice.name == "speak"
    assert upstream.last["tools"] == [nested(WEATHER), nested({**SPEECH, "strict": False})]
    assert upstream.last["tool_choice"] == {"type": "function", "function": {"name": "speak"}}
    allowed: Any = {"type": "allowed_tools", "mode": "required", "tools": [one]}
    told = ask(alices, "hi", tools=tools, tool_choice=allowed)
    # The model is offered what is allowed, and the response repeats what was asked for.
    assert [tool["function"]["name"] for tool in upstream.last["tools"]] == ["speak"]
    assert upstream.last["tool_choice"] == "required"
    assert [tool.name for tool in told.tools] == ["weather", "speak"]
    assert told.tool_choice.to_dict() == allowed
    in_chat = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]},
    }
    assert chat(raw, tools=[nested(WEATHER)], tool_choice=in_chat).status_code == 200
    assert upstream.last["tool_choice"] == in_chat


# RequestModel.

SENT: dict[str, Any] = {
    "service_tier": "auto",
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "top_logprobs": 2,
    "moderation": {"model": "omni"},
    "temperature": 0.5,
    "top_p": 0.25,
}
VENDORS: dict[str, Any] = {
    "top_k": 5,
    "chat_template_kwargs": {"thinking": False},
    "seed": 7,
    "stop": ["END"],
    "logprobs": True,
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
}
ECHOED: dict[str, Any] = {
    "truncation": "auto",
    "include": ["reasoning.encrypted_content"],
    "max_tool_calls": 3,
    "context_management": [{"type": "compaction", "compact_threshold": 900_000}],
    "stream_options": {"include_obfuscation": False},
    "access_programs": {"cyber": "standard"},
    "image": {"context_compression": "disabled"},
}


def test_each_field_of_the_responses_api_is_sent_or_is_none_of_chat_completions() -> None:
    responses = set(get_type_hints(ResponseCreateParamsBase))
    chats = set(get_type_hints(CompletionCreateParamsBase))
    assert responses - chats <= RESPONSES_ONLY
    # These two APIs say it in different forms; all else that they share goes up as it is.
    assert RESPONSES_ONLY & chats == {"tools", "tool_choice"}
    assert {*SENT, "parallel_tool_calls"} == (responses & chats) - RESPONSES_ONLY - LOCAL_FIELDS


def test_what_chat_completions_and_vendors_know_is_sent_to_the_model_server(
    raw: httpx2.Client, upstream: Upstream
) -> None:
    fields = {**SENT, **VENDORS}
    for answer in (respond(raw, **fields), chat(raw, **fields)):
        assert answer.status_code == 200, answer.text
        heard = dict(upstream.last)
        assert {name: heard.pop(name, None) for name in fields} == fields
        assert set(heard) == ALWAYS
    told = respond(raw, **fields).json()
    assert {name: told[name] for name in SENT if name not in {"moderation", "service_tier"}} == {
        name: value for name, value in SENT.items() if name not in {"moderation", "service_tier"}
    }
    none: dict[str, Any] = dict.fromkeys(fields)
    # A null is no wish, and neither is a number of no probabilities.
    for answer in (respond(raw, **none), respond(raw, top_logprobs=0)):
        assert answer.status_code == 200, answer.text
        assert set(upstream.last) == ALWAYS
    assert respond(raw, top_logprobs=1).status_code == 200
    assert (upstream.last["top_logprobs"], upstream.last["logprobs"]) == (1, True)


@pytest.mark.parametrize("post", [respond, chat])
@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"service_tier": 5}, "invalid_type", "service_tier"),
        ({"logprobs": "yes"}, "invalid_type", "logprobs"),
        ({"top_logprobs": "two"}, "invalid_type", "top_logprobs"),
        ({"prompt_cache_options": "k"}, "invalid_type", "prompt_cache_options"),
        ({"top_k": [[[[[[]]]]]] * 2, "stop": 5}, "invalid_type", "stop"),
    ],
)
def test_a_field_for_the_model_server_is_of_its_type(
    raw: httpx2.Client, upstream: Upstream, post: Any, fields: dict[str, Any], code: str, param: str
) -> None:
    refused(post(raw, **fields), 400, code, param)
    assert not upstream.heard


SECRET = "my mother is ill"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"truncation": SECRET}, "truncation"),
        ({"stream": SECRET}, "stream"),
        ({"on_busy": SECRET}, "on_busy"),
        ({"tool_choice": SECRET}, "tool_choice"),
        ({"metadata": {"a": [SECRET]}}, "metadata.a"),
        ({"metadata": {"a": SECRET * 50}}, "metadata.a"),
        ({"text": {"format": {"type": SECRET}}}, "text.format.type"),
        ({"tools": [{"type": SECRET}]}, "tools[0].type"),
        ({"input": [{"type": SECRET}]}, "input[0].type"),
        ({"input": [{"role": SECRET, "content": "hi"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": SECRET}]}]}, "input[0].content[0].type"),
    ],
)
def test_a_refusal_names_the_field_and_quotes_nothing(
    raw: httpx2.Client, fields: dict[str, Any], param: str
) -> None:
    answer = respond(raw, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert f"'{param}'" in error["message"]
    assert SECRET not in answer.text


def test_no_log_of_a_refusal_quotes_the_request() -> None:
    with pytest.raises(InvalidRequest, match="expected an array, but got a string") as caught:
        validate(NewItems, {"items": SECRET})
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert validate(NewItems, {"items": [{"role": "user", "content": SECRET}]}).items


HI = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (NewCompletion, {"messages": [1] * 3}),
        (NewCompletion, {"messages": [HI], "tools": [1] * 3}),
        (NewCompletion, {"messages": [HI], "modalities": [1] * 3}),
        (NewCompletion, {"messages": [HI], "metadata": dict.fromkeys("abc", 1)}),
        (NewResponse, {"tools": [1] * 3}),
        (NewResponse, {"context_management": [1] * 3}),
        (NewEmbeddings, {"input": [None] * 3}),
        (NewItems, {"items": [1] * 3}),
    ],
)
def test_only_the_first_wrong_entry_gets_an_error(model: type[RequestModel], fields: dict[str, Any]) -> None:
    # An error takes a hundred times the memory of such an entry, and a request may have ten million.
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"model": MODEL, **fields})
    assert caught.value.error_count() == 1


def test_options_without_effect_are_told_again_and_sent_nowhere(alices: OpenAI, upstream: Upstream) -> None:
    made = ask(alices, "hi", extra_body=ECHOED)
    assert set(upstream.last) == ALWAYS
    told = made.to_dict()
    assert {name: told[name] for name in ECHOED} == ECHOED
    assert alices.responses.retrieve(made.id).to_dict() == told
    plain = ask(alices, "hi").to_dict()
    assert set(told) - set(plain) == set(ECHOED) - {"truncation", "max_tool_calls"}


# Background.


def test_a_background_response_begins_as_queued(alices: OpenAI, upstream: Upstream) -> None:
    made = ask(alices, "hi", model="hold", background=True)
    assert (made.status, made.background, made.output) == ("queued", True, [])
    upstream.release()
    told = events(alices, "hi", background=True)
    assert [(event.type, event.response.status) for event in told[:3]] == [
        ("response.created", "queued"),
        ("response.queued", "queued"),
        ("response.in_progress", "in_progress"),
    ]
    assert told[-1].type == "response.completed"
    assert ask(alices, "hi").status == "completed"


# What is not there.


def test_the_beta_api_is_not_found(alices: OpenAI, upstream: Upstream) -> None:
    with pytest.raises(openai.NotFoundError, match="beta API is not available"):
        alices.beta.responses.create(model=MODEL, input="hi")
    made = ask(alices, "hi")
    for call in (alices.beta.responses.retrieve, alices.beta.responses.delete, alices.beta.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="beta API is not available"):
            call(made.id)
    assert len(upstream.heard) == 1
    assert alices.responses.retrieve(made.id) == made


def reason(failure: InvalidStatus) -> dict[str, Any]:
    assert failure.response.status_code == 400
    assert failure.response.headers["content-type"] == "application/json"
    assert failure.response.headers["x-request-id"].startswith("req_")
    error: dict[str, Any] = json.loads(failure.response.body or b"")["error"]
    return error


async def connect_later(server: Server, key: str) -> None:
    async with (
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key) as made,
        made.responses.connect(),
    ):
        pass


@pytest.mark.parametrize("command", ["serve", "uvicorn --no-access-log", GRANIAN])
def test_a_websocket_is_refused_in_words(
    command: str, server: Server, alice_key: str, tmp_path: Path, upstream: Upstream
) -> None:
    other = None if command == "serve" else OtherServer(tmp_path / "server.log", command, **env_of(upstream))
    there = other or server
    try:
        with (
            OpenAI(base_url=f"{there.url}/v1", api_key=alice_key) as made,
            pytest.raises(InvalidStatus) as sync,
            made.responses.connect(),
        ):
            pass
        with pytest.raises(InvalidStatus) as later:
            asyncio.run(connect_later(there, alice_key))
        for refusal in (sync.value, later.value):
            error = reason(refusal)
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["type"], error["code"]) == ("invalid_request_error", "unsupported_value")
            assert "`responses.create()`" in error["message"]
        with client(there, alice_key) as plain:
            assert ask(plain, "hi").status == "completed"
    finally:
        if other:
            other.kill()
