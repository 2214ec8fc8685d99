"""What model servers of other makes send back: read, or refused by name, and never taken for an empty reply.

Review 7, 8, 9 and 10. The scenario `as-asked` sends what the last message orders.
"""

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User
from django.test import Client
from openai import OpenAI
from pytest_django import Settings

from convo import errors, llm, turns
from convo.errors import ContentFilter, ConvoError, MaxOutputTokens, ReplyTruncated, UpstreamError
from convo.history import NewMessage
from convo.http.errors import headers, v1_headers
from convo.llm.reply_parser import CONTENT_FILTER, INTERRUPTED, LENGTH, STOP, TOOL_CALLS, reason_of
from convo.memory import model_requests
from convo.models import ME, Turn
from tests.faults import events as events_of
from tests.faults import wait_until
from tests.responses import client as openai_client
from tests.responses import events
from tests.scenarios import DONE, ending_in, frame_of, refusing, sending
from tests.servers import ROOT, Server
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

ORDERED = "as-asked"
QUERY = "/api/v1/query/"


@pytest.fixture(autouse=True)
def model(settings: Settings, upstream: Upstream) -> Upstream:
    """The model server, asked by this process's own turns and work."""
    agents = str(ROOT / "tests" / "agents.yaml")
    settings.CONVO = {
        **settings.CONVO,
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "alices-own-key",
        "AGENTS_FILE": agents,
    }
    return upstream


@pytest.fixture
def alices(server: Server, alice_key: str) -> Iterator[OpenAI]:
    with openai_client(server, alice_key) as made:
        yield made


@pytest.fixture
def page(client: Client, alice: User) -> Client:
    """A browser in which alice is signed in."""
    client.force_login(alice)
    return client


def pieces_of(order: str, model: str = ORDERED) -> list[llm.StreamEvent]:
    """The pieces of the reply that this order describes."""

    async def read() -> list[llm.StreamEvent]:
        ask = llm.ModelRequest(model=model, messages=[{"role": "user", "content": order}])
        return [piece async for piece in llm.stream(ask)]

    return asyncio.run(read())


def failure_of(order: str) -> ConvoError:
    """The error that this order ends with."""
    with pytest.raises(UpstreamError) as caught:
        pieces_of(order)
    return caught.value


def text_of(pieces: list[llm.StreamEvent], kind: str = "message") -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, llm.TextDelta) and piece.kind == kind)


def query(key: str, order: str) -> Any:
    """The answer of the REST API to this order."""
    body = {"message": order, "agent": ORDERED}
    headers = {"Authorization": f"Bearer {key}"}
    return Client(headers=headers).post(QUERY, json.dumps(body), content_type="application/json")


def asked_on(page: Client, order: str) -> str:
    """The page that shows how this order ended."""
    return page.post("/", {"message": order, "agent": ORDERED}, follow=True).content.decode()


# Review 7: finish words.

# From each maker's own documentation or source: what it calls the end of a reply, and what that means.
WORDS = {
    "OpenAI": {"stop": STOP, "length": LENGTH, "content_filter": CONTENT_FILTER, "tool_calls": TOOL_CALLS},
    "Ollama": {"stop": STOP, "length": LENGTH, "load": STOP, "unload": STOP},
    "vLLM": {"stop": STOP, "abort": INTERRUPTED, "error": INTERRUPTED, "repetition": INTERRUPTED},
    "TGI": {"eos_token": STOP, "stop_sequence": STOP, "length": LENGTH},
    "Mistral": {"model_length": LENGTH, "tool_calls": TOOL_CALLS, "error": INTERRUPTED},
    "Gemini": {
        "STOP": STOP,
        "MAX_TOKENS": LENGTH,
        "SAFETY": CONTENT_FILTER,
        "PROHIBITED_CONTENT": CONTENT_FILTER,
        "content_filter: RECITATION": CONTENT_FILTER,
        "function_call_filter: MALFORMED_FUNCTION_CALL": INTERRUPTED,
    },
    "Anthropic": {
        "end_turn": STOP,
        "max_tokens": LENGTH,
        "model_context_window_exceeded": LENGTH,
        "tool_use": TOOL_CALLS,
        "refusal": CONTENT_FILTER,
    },
    "Cohere": {
        "COMPLETE": STOP,
        "MAX_TOKENS": LENGTH,
        "ERROR_LIMIT": LENGTH,
        "ERROR_TOXIC": CONTENT_FILTER,
        "TOOL_CALL": TOOL_CALLS,
        "TIMEOUT": INTERRUPTED,
    },
}
EVERY_WORD = [(word, reason) for words in WORDS.values() for word, reason in words.items()]


@pytest.mark.parametrize(("word", "reason"), EVERY_WORD)
def test_the_finish_words_of_every_maker_are_known(word: str, reason: str) -> None:
    assert {reason_of(word), reason_of(word.upper()), reason_of(word.lower())} == {reason}


def test_a_word_in_no_table_ends_a_whole_reply_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert reason_of("enlightened") is None
    assert pieces_of(ending_in("eos_token"))[-1] == llm.Finish(STOP)
    assert not caplog.records
    assert pieces_of(ending_in("enlightened"))[-1] == llm.Finish(STOP, unknown_word="enlightened")
    assert "enlightened" in caplog.text


def test_the_word_is_kept_with_the_turn(alice_key: str) -> None:
    for word, kept in (("end_turn", None), ("enlightened", "enlightened")):
        answer = query(alice_key, ending_in(word))
        assert (answer.status_code, answer.json()["turn"]["status"]) == (200, "complete")
        manifest = Turn.objects.get(key=answer.json()["turn"]["id"]).manifest
        assert manifest
        assert manifest.get("finish_word") == kept
        assert manifest["parts"]


def test_a_word_that_says_that_the_server_gave_up_is_a_broken_reply() -> None:
    assert isinstance(failure_of(ending_in("abort")), ReplyTruncated)


@pytest.mark.parametrize("word", ["stop", "eos_token", "end_turn", "STOP", "COMPLETE", "enlightened"])
def test_background_work_takes_a_whole_reply_however_its_end_is_called(word: str) -> None:
    assert model_requests.ask(ORDERED, "Say something.", ending_in(word)) == "one two"


@pytest.mark.parametrize("word", ["length", "model_length", "MAX_TOKENS", "SAFETY", "max_tokens"])
def test_background_work_refuses_a_reply_that_was_cut(word: str) -> None:
    with pytest.raises(UpstreamError):
        model_requests.ask(ORDERED, "Say something.", ending_in(word))


@pytest.mark.parametrize(
    ("word", "reason", "chat_reason"),
    [
        ("MAX_TOKENS", "max_output_tokens", "length"),
        ("model_length", "max_output_tokens", "length"),
        ("SAFETY", "content_filter", "content_filter"),
        ("end_turn", None, "stop"),
    ],
)
def test_a_cut_reply_is_incomplete_on_both_surfaces(
    raw: httpx2.Client, alices: OpenAI, word: str, reason: str | None, chat_reason: str
) -> None:
    order = ending_in(word)
    made = raw.post("/v1/responses", json={"model": ORDERED, "input": order}).json()
    assert made["status"] == ("incomplete" if reason else "completed")
    assert (made["incomplete_details"] or {}).get("reason") == reason
    last = events(alices, order, model=ORDERED)[-1]
    assert last.type == f"response.{made['status']}"
    body = {"model": ORDERED, "messages": [{"role": "user", "content": order}]}
    whole = raw.post("/v1/chat/completions", json=body).json()
    assert whole["choices"][0]["finish_reason"] == chat_reason
    streamed = raw.post("/v1/chat/completions", json={**body, "stream": True}).text
    assert f'"finish_reason": "{chat_reason}"' in streamed


@pytest.mark.parametrize(
    ("word", "error"), [("MAX_TOKENS", MaxOutputTokens), ("SAFETY", ContentFilter), ("STOP", None)]
)
def test_the_page_says_that_a_reply_was_cut(page: Client, word: str, error: type[ConvoError] | None) -> None:
    shown = asked_on(page, ending_in(word))
    assert "one two" in shown
    assert ("Not the whole reply." in shown) == bool(error)
    assert error is None or str(error.__doc__) in shown


# Review 8: shapes of a reply.

SAID = {"content": "one two"}
STOPS = {"finish_reason": "stop"}
ENDED = frame_of(delta={}, **STOPS)
PARIS = {"city": "Paris"}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "They say hello."}]}
REFERENCE = {"type": "reference", "reference_ids": [1]}
READABLE = {
    "delta, as OpenAI": [frame_of(delta=SAID), ENDED, DONE],
    "message in place of delta": [frame_of(message={"role": "assistant", **SAID}, **STOPS), DONE],
    "message in pieces": [frame_of(message={"content": text}) for text in ("one ", "two")] + [ENDED],
    "a role in a delta, the words in a message": [
        frame_of(delta={"role": "assistant"}),
        frame_of(message=SAID, **STOPS),
    ],
    "the message once more at the end": [frame_of(delta=SAID), frame_of(message=SAID, **STOPS), DONE],
    "text": [frame_of(text="one "), frame_of(text="two", **STOPS), DONE],
    "content as a list": [
        frame_of(delta={"content": [{"type": "text", "text": "one two"}, REFERENCE]}),
        ENDED,
    ],
    "no empty line after the last frame": [frame_of(delta=SAID), ENDED.rstrip("\n")],
    "only one line end after the last frame": [frame_of(delta=SAID), ENDED.rstrip("\n") + "\n"],
    "no empty line after [DONE]": [frame_of(delta=SAID), DONE.rstrip("\n")],
    "[DONE] without a finish word": [frame_of(delta=SAID), DONE],
}


@pytest.mark.parametrize("name", READABLE)
def test_words_are_read_wherever_a_server_puts_them(name: str) -> None:
    pieces = pieces_of(sending(*READABLE[name]))
    assert text_of(pieces) == "one two"
    assert pieces[-1] == llm.Finish(STOP)


def test_a_thought_in_a_list_of_parts_is_read_as_one() -> None:
    parts = {"content": [THOUGHT, {"type": "text", "text": "one two"}]}
    pieces = pieces_of(sending(frame_of(delta=parts), ENDED))
    assert (text_of(pieces, "reasoning"), text_of(pieces)) == ("They say hello.", "one two")


@pytest.mark.parametrize("place", ["delta", "message"])
def test_the_arguments_of_a_call_may_be_an_object(place: str) -> None:
    call = {"id": "call_1", "function": {"name": "weather", "arguments": PARIS}}
    frame: Any = {place: {"tool_calls": [call]}}
    first, last = pieces_of(sending(frame_of(**frame), frame_of(delta={}, finish_reason="tool_calls"), DONE))
    assert isinstance(first, llm.ToolCallDelta)
    assert (first.call_id, first.name, json.loads(first.arguments)) == ("call_1", "weather", PARIS)
    assert last == llm.Finish(TOOL_CALLS)


FUNCTION = {"function_call": {"name": "weather", "arguments": "{}"}}
UNREADABLE = {
    "the retired function_call": [
        frame_of(delta=FUNCTION),
        frame_of(delta={}, finish_reason="function_call"),
    ],
    "function_call in a message": [frame_of(message=FUNCTION, **STOPS)],
    "a part that is an image": [frame_of(delta={"content": [{"type": "image_url"}]}), ENDED],
    "content that is a number": [frame_of(delta={"content": 7}), ENDED],
    "a delta that is a text": [frame_of(delta="one two"), ENDED],
    "choices that are a text": ['data: {"choices": "one two"}\n\n', DONE],
    "the frames of another API": ['data: {"type": "content_block_delta", "delta": {"text": "one"}}\n\n'],
    "nothing but an end": [ENDED, DONE],
    "nothing but [DONE]": [DONE],
    "nothing but an empty text": [frame_of(delta={"content": ""}), ENDED, DONE],
    "nothing but a thought": [frame_of(delta={"reasoning_content": "Hm."}), ENDED, DONE],
    "calls announced and none made": [frame_of(delta={}, finish_reason="tool_calls"), DONE],
    "nothing at all": [": hello\n\n"],
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_reply_that_cannot_be_read_is_a_named_failure_and_never_an_empty_reply(
    alice_key: str, name: str
) -> None:
    order = sending(*UNREADABLE[name])
    assert failure_of(order).code == "upstream_protocol_error"
    answer = query(alice_key, order)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_protocol_error")
    assert answer.json()["turn"]["status"] == ("partial" if name == "nothing but a thought" else "failed")


def test_an_empty_reply_is_never_completed_on_either_surface(raw: httpx2.Client) -> None:
    order = sending(ENDED, DONE)
    made = raw.post("/v1/responses", json={"model": ORDERED, "input": order, "background": True}).json()
    wait_until(lambda: raw.get(f"/v1/responses/{made['id']}").json()["status"] == "failed")
    body = {"model": ORDERED, "messages": [{"role": "user", "content": order}]}
    assert raw.post("/v1/chat/completions", json=body).status_code == 502
    assert "[DONE]" not in raw.post("/v1/chat/completions", json={**body, "stream": True}).text


@pytest.mark.parametrize(
    "last", ['data: {"choices": [{"delta": {"content": "thr', "data", frame_of(delta={"content": "two"})]
)
def test_a_stream_that_ends_in_its_middle_is_cut(last: str) -> None:
    assert isinstance(failure_of(sending(frame_of(delta={"content": "one "}), last)), ReplyTruncated)


def test_a_placeholder_for_a_function_call_says_nothing() -> None:
    empty = {"function_call": {"name": "", "arguments": ""}}
    assert text_of(pieces_of(sending(frame_of(delta={**SAID, **empty}), ENDED))) == "one two"


def test_the_tokens_of_an_empty_reply_are_counted(alice_key: str) -> None:
    usage = 'data: {"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": 8}}\n\n'
    turn = query(alice_key, sending(ENDED, usage, DONE)).json()["turn"]
    assert (turn["status"], turn["usage"]["input_tokens"]) == ("failed", 70)


@pytest.mark.parametrize("tokens", ["x", -1, 10**30])
def test_a_count_of_tokens_that_is_none_spoils_no_reply(alice_key: str, tokens: Any) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": 8}}
    turn = query(alice_key, sending(frame_of(delta=SAID), ENDED, f"data: {json.dumps(usage)}\n\n")).json()[
        "turn"
    ]
    assert (turn["status"], turn["usage"]["output_tokens"]) == ("complete", 8)


def test_a_server_that_refuses_stream_options_is_asked_without_them_and_remembered(
    upstream: Upstream, settings: Settings
) -> None:
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url.replace("127.0.0.1", "localhost")}
    for sent in (2, 3, 4):
        assert text_of(pieces_of("hello", "no-stream-options")).startswith("word1 ")
        assert len(upstream.heard) == sent
    assert ["stream_options" in heard for heard in upstream.heard] == [True, False, False, False]


def test_another_refusal_is_not_asked_twice_and_other_servers_still_count(upstream: Upstream) -> None:
    failure_of(refusing(400, {"error": {"message": "No."}}))
    assert len(upstream.heard) == 1
    pieces_of("hello", "words")
    assert "stream_options" in upstream.last


# Review 9: what the server says is wrong with a request, and with ourselves.

TOO_LONG = {
    "message": "This model's maximum context length is 8 tokens.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}
FILTERED = {
    "message": "The prompt was filtered.",
    "type": None,
    "param": "messages[3].content",
    "code": "content_filter",
}
WORDS_ONLY = {"object": "error", "message": "This model's maximum context length is 8 tokens.", "code": 400}
GEMINI = [{"error": {"code": 400, "message": "Unknown name.", "status": "INVALID_ARGUMENT"}}]
REQUEST_FAULTS = [
    pytest.param({"error": TOO_LONG}, "context_length_exceeded", "messages", id="OpenAI"),
    pytest.param([{"error": TOO_LONG}], "context_length_exceeded", "messages", id="a list"),
    pytest.param({"error": FILTERED}, "content_filter", "messages", id="Azure"),
    pytest.param(WORDS_ONLY, "context_length_exceeded", None, id="vLLM"),
    pytest.param(GEMINI, "invalid_value", None, id="Gemini"),
    pytest.param(
        {"error": {"message": "No.", "code": "a b", "param": "<b>"}}, "invalid_value", None, id="nonsense"
    ),
]
FOR_OPERATORS = ("OPENAI_", "CONVO_", "agents.yaml", "It said", "sk-", "Retry-After")


@pytest.mark.parametrize(("body", "code", "param"), REQUEST_FAULTS)
def test_the_server_s_own_code_and_param_are_passed_on(
    raw: httpx2.Client, body: Any, code: str, param: str | None
) -> None:
    order = refusing(400, body)
    messages = [{"role": "user", "content": order}]
    asked: Any = {
        "/v1/chat/completions": ({"messages": messages}, param),
        "/v1/responses": ({"input": order}, param and "input"),
    }
    for path, (fields, field) in asked.items():
        for stream in (False, True):
            answer = raw.post(path, json={"model": ORDERED, "stream": stream, **fields})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (400, code, field)
            assert error["type"] == "invalid_request_error"
    turn = Turn.objects.latest("pk")
    assert turn.error
    assert turn.error.get("upstream_code") == (None if code == "invalid_value" else code)


def test_an_error_inside_a_stream_keeps_its_code_too() -> None:
    for frame in ({"error": TOO_LONG}, [{"error": {**TOO_LONG, "code": 400}}]):
        error = failure_of(sending(frame_of(delta=SAID), f"data: {json.dumps(frame)}\n\n"))
        assert (error.code, error.v1_code, error.v1_status) == (
            "upstream_rejected",
            "context_length_exceeded",
            400,
        )
    rate = {"error": {"message": "Slow down.", "code": 429}}
    assert failure_of(sending(f"data: {json.dumps(rate)}\n\n")).code == "upstream_rate_limited"
    broken = {"error": {"message": "The engine overheated.", "code": 500}}
    assert failure_of(sending(f"data: {json.dumps(broken)}\n\n")).code == "upstream_protocol_error"


def test_a_background_response_says_that_its_prompt_was_at_fault(raw: httpx2.Client) -> None:
    body = {"model": ORDERED, "input": refusing(400, {"error": TOO_LONG}), "background": True}
    id = raw.post("/v1/responses", json=body).json()["id"]
    failed = wait_until(lambda: raw.get(f"/v1/responses/{id}").json()["error"])
    assert failed["code"] == "invalid_prompt"
    assert "maximum context length" in failed["message"]


BAD_KEY = {"error": {"message": "Incorrect API key provided: sk-abcdefgh", "code": "invalid_api_key"}}
GEMINI_KEY = [
    {"error": {"code": 400, "message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}}
]
OUR_FAULTS = [
    pytest.param(401, BAD_KEY, id="401"),
    pytest.param(403, BAD_KEY, id="403"),
    pytest.param(400, GEMINI_KEY, id="Gemini"),
    pytest.param(
        429, {"error": {"message": "Check your billing.", "code": "insufficient_quota"}}, id="no money"
    ),
]


@pytest.mark.parametrize("session", [None, "new", "old"])
@pytest.mark.parametrize(("status", "body"), OUR_FAULTS)
def test_that_the_server_refuses_us_is_502_and_not_asked_again(
    raw: httpx2.Client, status: int, body: Any, session: str | None
) -> None:
    order = refusing(status, body)
    headers = {"X-Convo-Session": "new"} if session else {}
    if session == "old":
        hello = {"model": "words", "messages": [{"role": "user", "content": "hello"}]}
        first = raw.post("/v1/chat/completions", json=hello, headers=headers)
        headers["X-Convo-Session"] = first.headers["x-convo-session"]
    asked = {"model": ORDERED, "messages": [{"role": "user", "content": order}]}
    for path, fields in (
        ("/v1/chat/completions", asked),
        ("/v1/responses", {"model": ORDERED, "input": order}),
    ):
        answer = raw.post(path, json=fields, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_rejected")
        assert answer.headers["x-should-retry"] == "false"
        assert "sk-" not in answer.text


def test_a_refused_embedding_is_the_caller_s_fault_or_ours(
    client: Client, alice_key: str, settings: Settings
) -> None:
    nowhere = f"{settings.CONVO['OPENAI_BASE_URL']}/nowhere"
    settings.CONVO = {**settings.CONVO, "EMBEDDING_MODEL": "vectors", "OPENAI_BASE_URL": nowhere}
    answer = client.post(
        "/v1/embeddings",
        json.dumps({"model": "x", "input": "a cat"}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {alice_key}"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (refusing(400, {"error": TOO_LONG}), "begin a new conversation"),
        (refusing(400, {"error": FILTERED}), "Say it in other words"),
        (refusing(400, GEMINI), "Change it, or try again"),
        (refusing(401, BAD_KEY), "Tell the people who run this site"),
        (refusing(404, {"error": {"code": "model_not_found"}}), "Tell the people who run this site"),
        (refusing(500, {"error": {"message": "sk-secret at 10.0.0.1"}}), "try again in a moment"),
        (sending(ENDED, DONE), "could not be read"),
        (sending(frame_of(delta=SAID)), "broke off before its end"),
    ],
    ids=["too long", "filtered", "refused", "wrong key", "wrong model", "broken", "empty", "cut"],
)
def test_the_page_says_what_its_visitor_can_do_and_the_log_what_the_operator_can(
    page: Client, order: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    shown = asked_on(page, order)
    mark = shown.partition('<div class="mark')[2].partition("</p>")[0]
    assert words in mark
    assert not [word for word in FOR_OPERATORS if word in mark]
    error = Turn.objects.get().error or {}
    is_for_operators = error["code"] in {"upstream_rejected", "upstream_protocol_error"}
    assert ("check OPENAI_BASE_URL" in caplog.text) == is_for_operators
    assert "maximum context length" not in caplog.text
    # The admin shows it as it was.
    assert error["code"] != "upstream_rejected" or error["message"].startswith("The model server refused")


# Review 10: how long to wait.

LIMITED = {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}
GEMINI_LIMITED = [{"error": {"code": 429, "message": "Slow down.", "details": [{"retryDelay": "34.2s"}]}}]
WAITS = [
    pytest.param(refusing(429, LIMITED), 30, id="nothing said"),
    pytest.param(refusing(429, LIMITED, **{"Retry-After": "7"}), 7, id="a header"),
    pytest.param(refusing(429, LIMITED, **{"Retry-After": "tomorrow"}), 30, id="nonsense"),
    pytest.param(refusing(429, GEMINI_LIMITED), 35, id="Gemini"),
]


@pytest.mark.parametrize(("order", "seconds"), WAITS)
def test_a_rate_limit_always_says_how_long_to_wait(raw: httpx2.Client, order: str, seconds: int) -> None:
    asked: Any = {
        "/v1/chat/completions": {"model": ORDERED, "messages": [{"role": "user", "content": order}]},
        "/v1/responses": {"model": ORDERED, "input": order},
        QUERY: {"agent": ORDERED, "message": order},
    }
    for path, fields in asked.items():
        answer = raw.post(path, json=fields)
        assert (answer.status_code, answer.headers.get("Retry-After")) == (429, str(seconds))
    with raw.stream("POST", QUERY, json={**asked[QUERY], "stream": True}) as response:
        name, told = list(events_of(response))[-1]
    assert (name, told["retryable"], math.ceil(told["retry_after"])) == ("error", True, seconds)
    made = raw.post("/v1/responses", json={**asked["/v1/responses"], "background": True}).json()
    failed = wait_until(lambda: raw.get(f"/v1/responses/{made['id']}").json()["error"])
    assert failed["code"] == "rate_limit_exceeded"
    assert failed["message"].endswith(f"try again in {seconds}s.")


def test_a_server_that_is_away_for_a_time_that_it_names_is_believed() -> None:
    for status in (503, 409):
        error = failure_of(refusing(status, {}, **{"Retry-After": "9"}))
        assert (error.code, error.retry_after) == ("upstream_unavailable", 9)


def test_a_chat_stream_that_is_limited_in_its_middle_says_how_long_to_wait(raw: httpx2.Client) -> None:
    order = sending(frame_of(delta=SAID), f"data: {json.dumps(LIMITED)}\n\n")
    body = {"model": ORDERED, "messages": [{"role": "user", "content": order}], "stream": True}
    last = json.loads(raw.post("/v1/chat/completions", json=body).text.split("data: ")[-1])
    assert (last["error"]["code"], last["retry_after"]) == ("upstream_rate_limited", 30)


@pytest.mark.parametrize(("order", "seconds"), WAITS)
def test_the_page_says_the_seconds(page: Client, order: str, seconds: int) -> None:
    assert f"Try again in {seconds} seconds." in asked_on(page, order)


def test_the_page_s_script_is_told_the_seconds_of_a_refusal(page: Client, alice: User) -> None:
    session = turns.store_session(turns.new_session(alice, ME))[0]
    turns.begin(session, [NewMessage(role="user", content="hello")])
    body = {"message": "and now?"}
    address = f"/c/{session.pk}/"
    refused = page.post(address, body, headers={"X-Convo-Page": "1"})
    assert refused.status_code == 409
    assert "Try again in 15 seconds." in refused.json()["error"]["message"]


def every(error: type[ConvoError]) -> list[type[ConvoError]]:
    return [error, *(found for sub in error.__subclasses__() for found in every(sub))]


PROMISES = [error for error in every(ConvoError) if "Retry-After" in (error.__doc__ or "")]


@pytest.mark.parametrize("error", PROMISES)
def test_whatever_promises_a_retry_after_sends_one(error: type[ConvoError]) -> None:
    assert int(headers(error())["Retry-After"]) >= 1
    assert int(v1_headers(error())["Retry-After"]) >= 1


def test_those_are_all_that_promise_one() -> None:
    names = {error.__name__ for error in PROMISES}
    assert {"UpstreamRateLimited", "TurnInProgress", "IdempotencyKeyInUse", "DatabaseUnavailable"} <= names
    assert "Retry-After" not in headers(errors.ReplyTruncated())
