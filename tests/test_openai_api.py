"""One response under /v1/responses: what it is asked with, what reaches the model, and how it ends."""

import json
from typing import Any, cast

import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import OpenAI

from convo.models import ApiKey, Message, Session, Turn
from tests.corpus import DATA_URI
from tests.responses import (
    ENDINGS,
    NOTHING,
    WEATHER,
    ask,
    client,
    events,
    ids,
    inputs,
    message,
    named,
    output,
    prompt,
    texts,
)
from tests.servers import Server
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Rome"}'}


def refused(answer: httpx2.Response, status: int, code: str | None, param: str | None) -> str:
    """The message of a refusal, which has the four keys, a request id and nothing else."""
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"].startswith("req_")
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    return str(error["message"])


def post(raw: httpx2.Client, **body: Any) -> httpx2.Response:
    return raw.post("/v1/responses", json={"model": "words-2", **body})


# Whole and streamed.


def test_a_response_is_answered_kept_and_read_again(alices: OpenAI, upstream: Upstream) -> None:
    made = ask(alices, "hello there")
    assert made.id.startswith("resp_")
    assert (made.status, made.model, made.output_text) == ("completed", "words-2", "word1 word2 ")
    assert str(made._request_id).startswith("req_")
    [said] = made.output
    assert isinstance(said, openai.types.responses.ResponseOutputMessage)
    assert (said.role, said.status, said.id[:4]) == ("assistant", "completed", "msg_")
    assert made.usage
    assert (made.usage.input_tokens, made.usage.output_tokens) == (2, 2)
    assert made.usage.input_tokens_details.cached_tokens == 1
    assert (made.conversation, made.previous_response_id) == (None, None)
    assert alices.responses.retrieve(made.id) == made
    assert prompt(upstream) == ["user: hello there"]
    assert upstream.headers.get("authorization") != f"Bearer {alices.api_key}"


def test_the_same_is_told_as_events(alices: OpenAI) -> None:
    found = events(alices, "hello")
    assert [event.type for event in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in found] == list(range(10))
    last = found[-1].response
    assert last.output_text == "word1 word2 "
    assert alices.responses.retrieve(last.id) == last
    with alices.responses.stream(model="words-2", input="hello") as stream:
        assert [event.type for event in stream] == [event.type for event in found]
        assert stream.get_final_response().output_text == "word1 word2 "


def test_a_stream_is_raw_frames_with_a_request_id_and_no_done(raw: httpx2.Client) -> None:
    with raw.stream("POST", "/v1/responses", json={"model": "words", "input": "x", "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["x-accel-buffering"] == "no"
        frames = answer.read().decode().split("\n\n")
    assert frames.pop() == ""
    for frame in frames:
        name, data = frame.split("\n")
        assert json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")


@pytest.mark.parametrize("scenario", ["empty-choices", "null-content", "huge-chunk", "surrogates"])
def test_what_a_strange_server_says_is_told_alike_in_both_ways(alices: OpenAI, scenario: str) -> None:
    whole, found = ask(alices, "hi", model=scenario), events(alices, "hi", model=scenario)
    if scenario == "surrogates":
        assert whole.output_text == "nul\ufffdlone\ufffd!pair😀low\ufffd👩‍👩‍👧 家"
    if scenario == "huge-chunk":
        assert (whole.status, found[-1].type) == ("failed", "response.failed")
        return
    deltas = [event.delta for event in found if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text == found[-1].response.output_text
    assert alices.responses.retrieve(whole.id).output_text == whole.output_text


# The input.


def test_an_input_is_a_text_or_items(alices: OpenAI, upstream: Upstream) -> None:
    parts = [{"type": "input_text", "text": "hello"}]
    for input in ("hello", [message("hello")], [{"type": "message", "role": "user", "content": parts}]):
        made = ask(alices, input)
        assert prompt(upstream) == ["user: hello"]
        [item] = inputs(alices, made.id)
        assert (item.type, item.role, item.status, item.id[:4]) == ("message", "user", "completed", "msg_")
        assert [(part.type, part.text) for part in item.content] == [("input_text", "hello")]


def test_input_items_come_newest_first_in_pages(alices: OpenAI) -> None:
    made = ask(alices, [message(f"line {number}") for number in range(25)])
    page = alices.responses.input_items.list(made.id)
    assert (len(page.data), page.has_more) == (20, True)
    assert texts(page) == [f"line {number}" for number in reversed(range(25))]
    assert texts(inputs(alices, made.id)) == [f"line {number}" for number in range(25)]
    with pytest.raises(openai.NotFoundError):
        alices.responses.input_items.list(made.id, after="msg_none")


def test_parts_reach_the_model_in_its_own_words(alices: OpenAI, upstream: Upstream) -> None:
    picture = DATA_URI
    parts = [{"type": "input_text", "text": "what is this?"}, {"type": "input_image", "image_url": picture}]
    ask(alices, [{"role": "user", "content": parts}])
    [said] = upstream.last["messages"]
    assert said["content"] == [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": picture, "detail": "auto"}},
    ]


def test_a_history_of_sixty_items_reaches_the_model_whole_in_order_and_unmerged(
    alices: OpenAI, upstream: Upstream
) -> None:
    roles = ["user", "user", "assistant", "system", "assistant", "developer"]
    items = [message(f"line {number}", roles[number % 6]) for number in range(59)] + [message("now?")]
    made = ask(alices, items)
    heard = [
        f"{'system' if item['role'] == 'developer' else item['role']}: {item['content']}" for item in items
    ]
    assert prompt(upstream) == heard
    ask(alices, "and now?", previous_response_id=made.id)
    assert prompt(upstream) == [*heard, "assistant: word1 word2 ", "user: and now?"]


def test_a_stored_item_is_named_by_its_id_alone(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "my name is Ada")
    [question], [answer] = inputs(alices, first.id), first.output
    for told in (named(question.id), {"id": question.id}):
        made = ask(alices, [told, named(answer.id), message("who am I?")])
        assert prompt(upstream) == ["user: my name is Ada", "assistant: word1 word2 ", "user: who am I?"]
        assert ids(inputs(alices, made.id))[:2] == [question.id, answer.id]


def test_what_a_response_said_can_be_sent_as_input(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "hello", model="reasoning")
    replayed = [item.model_dump(exclude_unset=True) for item in first.output]
    assert [item["type"] for item in replayed] == ["reasoning", "message"]
    ask(alices, [message("hello"), *replayed, message("go on")])
    assert prompt(upstream) == ["user: hello", "assistant: one two ", "user: go on"]


@pytest.mark.parametrize(
    ("input", "param"),
    [
        ([named("msg_unknown")], "input[0].id"),
        ([message("hi"), {"id": "msg_unknown"}], "input[1].id"),
    ],
)
def test_an_item_that_nobody_knows_is_not_found(raw: httpx2.Client, input: Any, param: str) -> None:
    assert "msg_unknown" in refused(post(raw, input=input), 404, None, param)


def test_another_tenants_item_is_unknown(
    server: Server, alices: OpenAI, bob_key: str, upstream: Upstream
) -> None:
    made = ask(alices, "my secret")
    [item] = inputs(alices, made.id)
    with client(server, bob_key) as bobs, pytest.raises(openai.NotFoundError) as caught:
        ask(bobs, [named(item.id)])
    assert item.id in caught.value.message
    # Sent whole, it is an item of his own that has that id.
    with client(server, bob_key) as bobs:
        ask(bobs, [{"id": item.id, **message("mine")}])
    assert prompt(upstream) == ["user: mine"]


def test_an_item_is_in_an_input_once(alices: OpenAI, raw: httpx2.Client) -> None:
    made = ask(alices, "hello")
    said = made.output[0].id
    twice = [named(said), named(said)]
    assert refused(post(raw, input=twice), 400, None, "input") == (
        f"Duplicate item found with id {said}. Remove duplicate items from your input and try again."
    )
    told = refused(post(raw, input=[named(said)], previous_response_id=made.id), 400, None, "input")
    assert told.startswith(f"Duplicate item found with id {said}.")
    assert post(raw, input=[named(said)]).status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "input"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"input": []}, "missing_required_parameter", "input"),
        ({"input": 5}, "invalid_type", "input"),
        ({"input": [5]}, "invalid_type", "input[0]"),
        ({"input": [{"role": "judge", "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
        ({"input": [{"type": "riddle"}]}, "invalid_value", "input[0].type"),
        ({"input": [{"id": "x", **message("x")}]}, "invalid_value", "input[0].id"),
        ({"input": "x", "stream": "yes"}, "invalid_type", "stream"),
        ({"input": "x", "store": 1}, "invalid_type", "store"),
        ({"input": "x", "model": 5}, "invalid_type", "model"),
        ({"input": "x", "instructions": ["x"]}, "invalid_type", "instructions"),
        ({"input": "x", "temperature": 3}, "invalid_value", "temperature"),
        ({"input": "x", "max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
        ({"input": "x", "truncation": "some"}, "invalid_value", "truncation"),
        ({"input": "x", "metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"input": "x", "tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name"),
        ({"input": "x", "tools": [WEATHER], "tool_choice": "some"}, "invalid_value", "tool_choice"),
        ({"input": "x", "text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type"),
        (
            {"input": "x", "text": {"format": {"type": "json_schema"}}},
            "missing_required_parameter",
            "text.format.schema",
        ),
        ({"input": "x", "conversation": 5}, "invalid_type", "conversation"),
        ({"input": "x", "conversation": {}}, "missing_required_parameter", "conversation.id"),
        ({"input": "x", "conversation": {"id": ""}}, "invalid_value", "conversation.id"),
        ({"input": "x", "on_busy": "wait"}, "invalid_value", "on_busy"),
        ({"input": "x", "background": True, "store": False}, "invalid_value", "background"),
        ({"input": "x", "previous_response_id": 5}, "invalid_type", "previous_response_id"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_leaves_nothing(
    raw: httpx2.Client, upstream: Upstream, body: dict[str, Any], code: str, param: str
) -> None:
    refused(post(raw, **body), 400, code, param)
    assert not Session.objects.exists()
    assert not upstream.heard


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "id", "role", "content", "name", "call_id", "x"]), inner)
    ),
    max_leaves=6,
)
FIELDS = [
    "input",
    "model",
    "instructions",
    "conversation",
    "previous_response_id",
    "store",
    "stream",
    "background",
    "metadata",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_tool_calls",
    "temperature",
    "top_p",
    "max_output_tokens",
    "top_logprobs",
    "text",
    "reasoning",
    "truncation",
    "include",
    "user",
    "safety_identifier",
    "service_tier",
    "prompt_cache_key",
    "on_busy",
    "context_management",
    "prompt",
    "stream_options",
]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(body=st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=4), valid=st.booleans())
def test_no_body_breaks_the_server(raw: httpx2.Client, body: dict[str, Any], valid: bool) -> None:
    body = {"input": "hi", "model": "words-2", **body} if valid else body
    sent = json.dumps(body).encode()
    answer = raw.post("/v1/responses", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_what_is_unknown_is_for_the_model_server_and_null_is_passed_over(
    alices: OpenAI, upstream: Upstream
) -> None:
    extra = {"riddle": 5, "moderation": {"x": 1}, "prompt": None, "conversation": None, "stream": None}
    made = ask(
        alices,
        [{**message("hi"), "riddle": 5}],
        include=["reasoning.encrypted_content", "message.output_text.logprobs"],
        truncation="auto",
        extra_body=extra,
    )
    assert made.truncation == "auto"
    assert prompt(upstream) == ["user: hi"]
    assert (upstream.last["riddle"], upstream.last["moderation"]) == (5, {"x": 1})
    assert not {"truncation", "include", "prompt", "conversation"} & set(upstream.last)


# Who answers, and with what.


def test_instructions_are_told_once_and_stored_nowhere(alices: OpenAI, upstream: Upstream) -> None:
    made = ask(alices, "hi", instructions="Speak like a pirate.")
    assert prompt(upstream) == ["system: Speak like a pirate.", "user: hi"]
    assert made.instructions == "Speak like a pirate."
    after = ask(alices, "go on", previous_response_id=made.id)
    assert prompt(upstream) == ["user: hi", "assistant: word1 word2 ", "user: go on"]
    assert after.instructions is None
    ask(alices, "go on", previous_response_id=after.id, instructions="Now like a poet.")
    assert prompt(upstream)[0] == "system: Now like a poet."
    assert "pirate" not in str(prompt(upstream))
    assert not Message.objects.filter(content__contains="pirate").exists()


def test_what_the_model_server_can_do_is_passed_on(alices: OpenAI, upstream: Upstream) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    made = ask(
        alices,
        "hi",
        text={"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}},
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        temperature=0.5,
        top_p=0.25,
        max_output_tokens=77,
        reasoning={"effort": "low"},
        metadata={"topic": "rome"},
        user="ada",
        service_tier="auto",
        prompt_cache_key="k",
    )
    heard = upstream.last
    format = {"name": "answer", "schema": schema, "strict": True}
    assert heard["response_format"] == {"type": "json_schema", "json_schema": format}
    function = {name: value for name, value in WEATHER.items() if name != "type"}
    assert heard["tools"] == [{"type": "function", "function": function}]
    assert heard["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert (heard["parallel_tool_calls"], heard["temperature"], heard["top_p"]) == (False, 0.5, 0.25)
    assert (heard["max_tokens"], heard["reasoning_effort"]) == (77, "low")
    assert (heard["stream"], heard["model"]) == (True, "words-2")
    assert (heard["service_tier"], heard["prompt_cache_key"]) == ("auto", "k")
    assert not {"metadata", "user", "store", "text", "input"} & set(heard)
    told = made.to_dict()
    assert told["tools"] == [WEATHER]
    assert (told["temperature"], told["max_output_tokens"], told["metadata"]) == (0.5, 77, {"topic": "rome"})
    assert (told["reasoning"], told["user"]) == ({"effort": "low", "summary": None}, "ada")
    assert told["tool_choice"] == {"type": "function", "name": "weather"}


def test_what_nobody_wished_is_not_sent(alices: OpenAI, upstream: Upstream) -> None:
    ask(alices, "hi", text={"format": {"type": "text"}})
    assert set(upstream.last) == {"model", "messages", "stream", "stream_options"}
    ask(alices, "hi", text={"format": {"type": "json_object"}}, tools=[WEATHER], tool_choice="required")
    assert upstream.last["response_format"] == {"type": "json_object"}
    assert upstream.last["tool_choice"] == "required"


def test_a_plain_model_passes_through_and_an_agent_brings_what_it_is_told(
    alices: OpenAI, upstream: Upstream, raw: httpx2.Client
) -> None:
    made = ask(alices, "hi", model="agent/told")
    assert (upstream.last["model"], made.model) == ("echo", "agent/told")
    assert prompt(upstream) == ["system: Answer in verse.", "user: hi"]
    ask(alices, "hi", model="agent/told", instructions="Be brief.")
    assert prompt(upstream) == ["system: Answer in verse.\n\nBe brief.", "user: hi"]
    other = ask(alices, "hi", model="org/some-model")
    assert (upstream.last["model"], other.model) == ("org/some-model", "org/some-model")
    assert prompt(upstream) == ["user: hi"]
    answer = raw.post("/v1/responses", json={"input": "hi"})
    assert (answer.json()["model"], upstream.last["model"]) == ("words-2", "words-2")


@pytest.mark.parametrize("name", ["agent/nobody", "agent/"])
def test_an_unknown_agent_is_no_model(raw: httpx2.Client, name: str) -> None:
    assert name in refused(post(raw, model=name, input="hi"), 404, "model_not_found", "model")
    assert not Session.objects.exists()


def test_an_input_that_exceeds_the_budget_is_refused(raw: httpx2.Client, upstream: Upstream) -> None:
    refused(post(raw, model="agent/small", input="word " * 500), 400, "context_length_exceeded", "input")
    assert not upstream.heard
    assert not Message.objects.exists()


# Tools.


def test_parallel_calls_are_told_and_answered(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "the weather?", model="tool-call", tools=[WEATHER])
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.call_id, call.name, call.arguments) for call in calls] == [
        ("call_paris", "weather", '{"city": "Paris"}'),
        ("call_rome", "weather", '{"city": "Rome"}'),
    ]
    assert [(call.status, str(call.id)[:3]) for call in calls] == [("completed", "fc_")] * 2
    listed = [{"type": "input_text", "text": "cloudy"}, {"type": "input_text", "text": "cold"}]
    answers = [output("call_rome", "sunny"), output("call_paris", listed)]
    made = ask(alices, answers, previous_response_id=first.id)
    asked, calling, *told = upstream.last["messages"]
    assert (asked["content"], calling["role"], calling["content"]) == ("the weather?", "assistant", None)
    assert [call["id"] for call in calling["tool_calls"]] == ["call_paris", "call_rome"]
    assert [call["function"]["name"] for call in calling["tool_calls"]] == ["weather"] * 2
    assert told == [
        {"role": "tool", "tool_call_id": "call_paris", "content": "cloudy\ncold"},
        {"role": "tool", "tool_call_id": "call_rome", "content": "sunny"},
    ]
    assert [item.type for item in inputs(alices, made.id)] == ["function_call_output"] * 2
    ask(alices, "thanks", previous_response_id=made.id)
    assert [row["role"] for row in upstream.last["messages"]] == (
        ["user", "assistant", "tool", "tool", "assistant", "user"]
    )


def test_calls_are_told_as_events(alices: OpenAI) -> None:
    found = events(alices, "the weather?", model="tool-call", tools=[WEATHER])
    added = [event.item for event in found if event.type == "response.output_item.added"]
    done = [event.item for event in found if event.type == "response.output_item.done"]
    assert [(item.call_id, item.name, item.arguments) for item in added] == [
        ("call_paris", "weather", ""),
        ("call_rome", "weather", ""),
    ]
    assert [item.arguments for item in done] == ['{"city": "Paris"}', '{"city": "Rome"}']
    assert ids(added) == ids(done) == ids(found[-1].response.output)
    with alices.responses.stream(model="tool-call", input="x", tools=cast(Any, [WEATHER])) as stream:
        assert len(stream.get_final_response().output) == 2


def test_a_whole_exchange_with_tools_can_be_sent_at_once(alices: OpenAI, upstream: Upstream) -> None:
    ask(alices, [message("weather?"), CALL, output("call_1", "sunny"), message("really?")])
    assert [row["role"] for row in upstream.last["messages"]] == ["user", "assistant", "tool", "user"]


@pytest.mark.parametrize(
    ("input", "told"),
    [
        ([output("call_1", "sunny")], "No tool call found for function call output with call_id call_1."),
        ([message("x"), CALL], "No tool output found for function call call_1."),
        (
            [output("call_1", "x"), CALL],
            "No tool call found for function call output with call_id call_1.",
        ),
        (
            [CALL, output("call_1", "x"), output("call_1", "y")],
            "The tool call call_1 already has an output.",
        ),
    ],
)
def test_a_call_and_its_output_need_each_other(
    raw: httpx2.Client, upstream: Upstream, input: Any, told: str
) -> None:
    assert refused(post(raw, input=input), 400, None, "input") == told
    assert not upstream.heard
    assert not Message.objects.exists()


def test_every_open_call_must_be_answered_before_anything_else(alices: OpenAI, raw: httpx2.Client) -> None:
    first = ask(alices, "the weather?", model="tool-call")
    told = "No tool output found for function call call_{}."
    options = {"previous_response_id": first.id}
    assert refused(post(raw, input="never mind", **options), 400, None, "input") == told.format("paris")
    half = [output("call_paris", "x")]
    assert refused(post(raw, input=half, **options), 400, None, "input") == told.format("rome")
    other = [*half, output("call_rome", "x"), output("call_oslo", "x")]
    assert refused(post(raw, input=other, **options), 400, None, "input").endswith("call_id call_oslo.")
    made = post(raw, input=[*half, output("call_rome", "x")], **options)
    assert made.status_code == 200
    again = post(raw, input=half, previous_response_id=made.json()["id"])
    assert refused(again, 400, None, "input") == "The tool call call_paris already has an output."


# How it ends.


def test_reasoning_comes_before_the_words_and_is_no_part_of_them(alices: OpenAI, upstream: Upstream) -> None:
    made = ask(alices, "hello", model="reasoning")
    thought = made.output[0]
    assert thought.type == "reasoning"
    assert thought.content
    assert (thought.content[0].text, thought.summary, thought.id[:3]) == ("They say hello.", [], "rs_")
    assert made.output_text == "one two "
    found = events(alices, "hello", model="reasoning")
    types = [event.type for event in found]
    assert types.count("response.reasoning_text.delta") == 2
    assert types.index("response.reasoning_text.done") < types.index("response.output_text.delta")
    assert [event.output_index for event in found if event.type == "response.output_item.added"] == [0, 1]
    assert len(found[-1].response.output) == 2
    ask(alices, "go on", previous_response_id=made.id)
    assert prompt(upstream) == ["user: hello", "assistant: one two ", "user: go on"]


def test_a_refusal_is_a_part_of_its_own(alices: OpenAI) -> None:
    whole, found = ask(alices, "x", model="refusal"), events(alices, "x", model="refusal")
    made: Any
    for made in (whole, found[-1].response, alices.responses.retrieve(whole.id)):
        assert made.status == "completed"
        assert [(part.type, part.refusal) for part in made.output[0].content] == [
            ("refusal", "I can't help with that.")
        ]
    assert [event.delta for event in found if event.type == "response.refusal.delta"] == [
        "I can't ",
        "help with that.",
    ]


@pytest.mark.parametrize(
    ("scenario", "reason"), [("length", "max_output_tokens"), ("content-filter", "content_filter")]
)
def test_a_reply_that_reached_its_limit_is_incomplete(alices: OpenAI, scenario: str, reason: str) -> None:
    whole, found = ask(alices, "x", model=scenario), events(alices, "x", model=scenario)
    assert found[-1].type == "response.incomplete"
    made: Any
    for made in (whole, found[-1].response, alices.responses.retrieve(whole.id)):
        assert (made.status, made.incomplete_details.reason) == ("incomplete", reason)
        assert (made.output[0].status, made.output_text, made.error) == ("incomplete", "one two ", None)
    assert ask(alices, "go on", previous_response_id=whole.id).status == "completed"


@pytest.mark.parametrize("scenario", ["drop", "silent-end", "malformed", "error-in-stream", "tool-cut"])
def test_a_reply_that_broke_off_is_never_completed(alices: OpenAI, scenario: str) -> None:
    found = events(alices, "x", model=scenario)
    whole = ask(alices, "x", model=scenario)
    assert found[-1].type == "response.failed"
    assert {event.type for event in found} & ENDINGS == {"response.failed"}
    made: Any
    for made in (whole, found[-1].response, alices.responses.retrieve(found[-1].response.id)):
        assert (made.status, made.output_text, made.output[0].status) == ("failed", "one two ", "incomplete")
        assert len(made.output) == 1
        assert made.error.code == "server_error"
        assert made.error.message
    again = alices.responses.retrieve(found[-1].response.id, stream=True)
    assert list(again)[-1] == found[-1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("scenario", "status", "code"),
    [
        ("400", 400, "invalid_value"),
        ("404", 404, "model_not_found"),
        ("401", 502, "upstream_rejected"),
        ("429", 429, "upstream_rate_limited"),
        ("500", 502, "upstream_unavailable"),
        ("503", 502, "upstream_unavailable"),
        ("html", 502, "upstream_protocol_error"),
    ],
)
def test_a_model_server_that_says_no_at_once_is_passed_on(
    raw: httpx2.Client, scenario: str, status: int, code: str, stream: bool
) -> None:
    answer = post(raw, model=scenario, input="x", stream=stream)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert answer.headers.get("retry-after") == ("7" if scenario == "429" else None)
    # The question is kept: sent again by itself, it would be asked twice.
    assert answer.headers.get("x-should-retry") == ("false" if status >= 500 else None)
    assert Turn.objects.get().status == Turn.Status.FAILED


def test_the_upstreams_key_is_never_told(alices: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(alices, "x", model="401")
    assert "sk-" not in caught.value.message


# What it leaves.


def test_a_response_is_deleted_and_then_unknown(alices: OpenAI, raw: httpx2.Client) -> None:
    made = ask(alices, "my secret is blue")
    gone = raw.delete(f"/v1/responses/{made.id}")
    assert gone.json() == {"id": made.id, "object": "response", "deleted": True}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        answer = raw.request(method, f"/v1/responses/{made.id}{path}")
        assert refused(answer, 404, None, None) == f"Response with id '{made.id}' not found."
    assert not Message.objects.exclude(content="").exists()


@pytest.mark.parametrize("id", [NOTHING, "resp_1", "conv_" + "0" * 32, "%00", "resp_" + "f" * 33])
def test_what_is_no_response_is_not_found(raw: httpx2.Client, id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        assert raw.request(method, f"/v1/responses/{id}{path}").status_code == 404


def test_a_response_of_the_foreground_is_not_cancelled(alices: OpenAI, raw: httpx2.Client) -> None:
    made = ask(alices, "hi")
    refused(raw.post(f"/v1/responses/{made.id}/cancel"), 400, "invalid_value", "response_id")
    assert alices.responses.retrieve(made.id).status == "completed"


def test_what_the_model_saw_is_explained(raw: httpx2.Client) -> None:
    made = post(raw, input="hi").json()
    answer = raw.get(f"/v1/responses/{made['id']}/context")
    assert (answer.status_code, answer.json()["parts"][-1]["part"]) == (200, "question")


def test_a_key_does_what_its_scopes_allow(server: Server, alice: Any) -> None:
    reads = ApiKey.objects.issue(alice, scopes=["read"])[1]
    with client(server, reads) as reader:
        with pytest.raises(openai.PermissionDeniedError):
            ask(reader, "hi")
        with pytest.raises(openai.NotFoundError):
            reader.responses.retrieve(NOTHING)
    with client(server, "nobody's") as stranger, pytest.raises(openai.AuthenticationError) as caught:
        ask(stranger, "hi")
    assert caught.value.code == "invalid_api_key"
