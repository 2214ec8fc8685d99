"""The model's reply arrives piece by piece, and whatever can go wrong on the way is loud and has a name."""

import asyncio
import gc
import json
import socket
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from pytest_django import Settings

from convo import llm
from convo.errors import (
    NotConfigured,
    ReplyTruncated,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from convo.llm.deadlines import Body
from convo.llm.upstream import FrameSplitter, max_tokens_field
from convo.tokens import count
from tests.door import Door
from tests.upstream import Upstream

pytestmark = pytest.mark.once

Configure = Callable[..., None]

HELLO = [{"role": "user", "content": "hello out there"}]
TWO_WORDS = [llm.TextDelta("one "), llm.TextDelta("two ")]
# What the tests' server counts for HELLO and a reply of two words.
USAGE = llm.Usage(input_tokens=3, output_tokens=2, cached_tokens=1)


@pytest.fixture
def configure(settings: Settings) -> Configure:
    """Sets keys of `settings.CONVO` for this test."""

    def change(**changed: Any) -> None:
        settings.CONVO = {**settings.CONVO, **changed}

    return change


@pytest.fixture
def server(upstream: Upstream, configure: Configure) -> Upstream:
    configure(OPENAI_BASE_URL=upstream.url, OPENAI_API_KEY="alices-own-key")
    return upstream


async def read(pieces: list[llm.StreamEvent], model: str, **asked: Any) -> None:
    """Read a reply into `pieces`, which keeps what came before a failure."""
    async for piece in llm.stream(llm.ModelRequest(model=model, **{"messages": HELLO, **asked})):
        pieces.append(piece)


def pieces_of(model: str, **asked: Any) -> list[llm.StreamEvent]:
    pieces: list[llm.StreamEvent] = []
    asyncio.run(read(pieces, model, **asked))
    return pieces


def failure_of(model: str, kind: type[UpstreamError]) -> tuple[list[llm.StreamEvent], UpstreamError]:
    """What had arrived, and the error that then came."""
    pieces: list[llm.StreamEvent] = []
    with pytest.raises(kind) as caught:
        asyncio.run(read(pieces, model))
    return pieces, caught.value


def text_of(pieces: list[llm.StreamEvent]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, llm.TextDelta))


# What arrives


def test_a_reply_comes_word_by_word_and_ends_with_its_usage_and_its_finish(server: Upstream) -> None:
    assert pieces_of("words-2") == [
        llm.TextDelta("word1 "),
        llm.TextDelta("word2 "),
        USAGE,
        llm.Finish("stop"),
    ]


def test_the_model_is_sent_what_was_asked_and_nothing_more(server: Upstream) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    whole = {"temperature": 0.5, "max_output_tokens": 9, "extra": {"tools": [tool]}}
    pieces_of("echo")
    assert server.last == {
        "model": "echo",
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    pieces_of("echo", **whole)
    assert {name: server.last[name] for name in ("temperature", "max_tokens", "tools")} == {
        "temperature": 0.5,
        "max_tokens": 9,
        "tools": [tool],
    }


def test_the_first_words_are_here_before_the_last_are_written(server: Upstream) -> None:
    async def first_then_release() -> list[str]:
        told: list[str] = []
        async for piece in llm.stream(llm.ModelRequest(model="hold", messages=HELLO)):
            if isinstance(piece, llm.TextDelta):
                told.append(piece.text)
            if told == ["first ", "second "]:
                server.release()
        return told

    assert asyncio.run(first_then_release()) == ["first ", "second ", "last"]


def test_two_tool_calls_in_pieces_can_be_put_together(server: Upstream) -> None:
    pieces = pieces_of("tool-call")
    calls = [piece for piece in pieces if isinstance(piece, llm.ToolCallDelta)]
    for index, call_id, city in ((0, "call_paris", "Paris"), (1, "call_rome", "Rome")):
        first, *later = [call for call in calls if call.index == index]
        assert (first.call_id, first.name) == (call_id, "weather")
        assert not any(call.call_id or call.name for call in later)
        arguments = first.arguments + "".join(call.arguments for call in later)
        assert json.loads(arguments) == {"city": city}
    assert pieces[-1] == llm.Finish("tool_calls")


@pytest.mark.parametrize("model", ["empty-choices", "null-content"])
def test_frames_that_say_nothing_add_nothing(server: Upstream, model: str) -> None:
    assert pieces_of(model) == [*TWO_WORDS, USAGE, llm.Finish("stop")]


def test_a_server_that_is_done_without_a_finish_word_has_said_all(server: Upstream) -> None:
    """Review 8"""
    assert pieces_of("done-only") == [*TWO_WORDS, llm.Finish("stop")]


def test_a_refusal_is_read_as_the_reply(server: Upstream) -> None:
    assert text_of(pieces_of("refusal")) == "I can't help with that."


def test_a_reply_cut_by_its_length_says_so(server: Upstream) -> None:
    assert pieces_of("length") == [*TWO_WORDS, USAGE, llm.Finish("length")]


def test_text_can_be_stored_and_no_character_is_lost_where_the_stream_was_cut(server: Upstream) -> None:
    text = text_of(pieces_of("surrogates"))
    assert text == "nul\ufffdlone\ufffd!pair😀low\ufffd👩‍👩‍👧 家"
    assert text.encode()


def test_a_whole_reply_is_the_stream_put_together(server: Upstream) -> None:
    done = asyncio.run(llm.complete(llm.ModelRequest(model="words-2", messages=HELLO)))
    assert done == llm.Completion(text="word1 word2 ", usage=USAGE, finish_reason="stop")


def test_replies_one_after_the_other_share_a_connection(server: Upstream) -> None:
    async def three() -> None:
        for _ in range(3):
            await read([], "words")

    asyncio.run(three())
    assert len(server.heard) == 3
    assert len({heard.port for heard in server.heard}) == 1


@pytest.mark.parametrize(("excluded", "is_used"), [("", True), ("models.test", False)])
def test_a_proxy_of_the_environment_is_used_unless_it_is_not_for_this_server(
    server: Upstream, configure: Configure, monkeypatch: pytest.MonkeyPatch, excluded: str, is_used: bool
) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", excluded)
    # No such host: only a proxy can be reached for it. The tests' server answers under its own paths alone.
    configure(OPENAI_BASE_URL="http://models.test/v1")
    failure_of("words", UpstreamRejected if is_used else UpstreamUnavailable)
    assert len(server.heard) == is_used


def test_a_proxy_is_not_told_the_key(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        # Without a scheme, as in many environments.
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.getsockname()[1]}")
        configure(OPENAI_BASE_URL="https://models.test/v1", OPENAI_API_KEY="alices-own-key")
        configure(CONNECT_SECONDS=0.5)
        heard: list[bytes] = []

        def refuse() -> None:
            connection, _ = proxy.accept()
            with connection:
                heard.append(connection.recv(10_000))

        thread = threading.Thread(target=refuse)
        thread.start()
        failure_of("words", UpstreamError)
        thread.join()
    assert heard[0].startswith(b"CONNECT models.test:443 ")
    assert b"alices-own-key" not in heard[0]


def test_a_reply_that_misses_its_deadline_leaves_nothing_behind(
    server: Upstream, configure: Configure
) -> None:
    configure(BETWEEN_CHUNKS_SECONDS=0.05, FIRST_BYTE_SECONDS=0.05)
    for _ in range(3):
        failure_of("hold", UpstreamError)
    gc.collect()
    # The type, because isinstance() asks a weak proxy for what it stands for, which may be gone.
    assert not any(issubclass(type(value), Body) for value in gc.get_objects())


def test_a_refusal_with_a_header_beyond_ascii_keeps_its_meaning(
    server: Upstream, configure: Configure
) -> None:
    refusal = b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nX-Note: \xc3\xa9\r\nContent-Length: 2\r\n\r\n{}"
    with Door(server.url, *[refusal] * 9) as door:
        configure(OPENAI_BASE_URL=door.url)
        _, error = failure_of("words", UpstreamRateLimited)
    assert error.retry_after == 7


@pytest.mark.parametrize(
    "ending",
    [b"Content-Length: 99\r\n\r\n{}", b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"],
)
def test_a_refusal_whose_body_breaks_off_keeps_its_meaning(
    server: Upstream, configure: Configure, ending: bytes
) -> None:
    with Door(server.url, *[b"HTTP/1.1 429 No\r\nRetry-After: 7\r\n" + ending] * 9) as door:
        configure(OPENAI_BASE_URL=door.url)
        _, error = failure_of("words", UpstreamRateLimited)
    assert error.retry_after == 7


def test_a_refusal_that_repeats_the_prompt_keeps_its_code(server: Upstream, configure: Configure) -> None:
    body = b'{"error": {"message": "%s", "code": "context_length_exceeded"}}' % (b"a" * 200_000)
    refusal = b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with Door(server.url, *[refusal] * 9) as door:
        configure(OPENAI_BASE_URL=door.url)
        _, error = failure_of("words", UpstreamRejected)
    assert error.details["upstream_code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("", "max_completion_tokens"),
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://ours.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://127.0.0.1:11434/v1", "max_tokens"),
        ("https://notopenai.com/v1", "max_tokens"),
    ],
)
def test_the_length_limit_has_the_name_that_the_server_knows(
    configure: Configure, base_url: str, name: str
) -> None:
    configure(OPENAI_BASE_URL=base_url)
    assert max_tokens_field() == name


# What goes wrong, each beside what arrived before it


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("silent-end", ReplyTruncated),
        ("drop", ReplyTruncated),
        ("malformed", UpstreamProtocolError),
        ("error-in-stream", UpstreamProtocolError),
    ],
)
def test_a_reply_that_breaks_off_is_an_error_after_what_arrived(
    server: Upstream, model: str, kind: type[UpstreamError]
) -> None:
    assert failure_of(model, kind)[0] == TWO_WORDS


@pytest.mark.parametrize(
    ("model", "kind", "told"),
    [
        ("401", UpstreamRejected, "Incorrect API key"),
        ("404", UpstreamRejected, "Scenario 404"),
        ("429", UpstreamRateLimited, "Scenario 429"),
        ("500", UpstreamUnavailable, "Scenario 500"),
        ("html", UpstreamProtocolError, "text/html"),
    ],
)
def test_a_refusal_to_answer_has_its_own_error_and_tells_why(
    server: Upstream, model: str, kind: type[UpstreamError], told: str
) -> None:
    pieces, error = failure_of(model, kind)
    assert not pieces
    assert told in error.message
    assert len(server.heard) == 1  # and was not tried again


def test_an_error_inside_the_stream_tells_what_the_server_said(server: Upstream) -> None:
    assert "The engine overheated." in failure_of("error-in-stream", UpstreamProtocolError)[1].message


def test_a_rate_limit_tells_how_long_to_wait_and_others_do_not(server: Upstream) -> None:
    assert failure_of("429", UpstreamRateLimited)[1].retry_after == 7
    assert failure_of("429-250", UpstreamRateLimited)[1].retry_after == 0.25
    assert failure_of("500", UpstreamUnavailable)[1].retry_after is None


def test_a_server_that_repeats_the_key_does_not_make_us_repeat_it(server: Upstream) -> None:
    error = failure_of("401", UpstreamRejected)[1]
    assert server.headers["authorization"] == "Bearer alices-own-key"
    assert "Incorrect API key" in error.message
    for told in (error.message, "".join(traceback.format_exception(error))):
        assert "alices-own-key" not in told
        assert "sk-al***ey" not in told


TOOLS = {"tools": [{"type": "function", "function": {"name": "weather"}}]}


@pytest.mark.parametrize(
    ("model", "asked", "effort"),
    [
        ("gpt-6-luna", {}, None),
        ("gpt-6-luna", {"temperature": 0.5}, "none"),
        ("gpt-6-luna", {"extra": TOOLS}, "none"),
        ("gpt-6-sol-2026-10-01", {"extra": {"top_p": 0.5}}, "none"),
        ("gpt-6-luna", {"temperature": 0.5, "extra": {**TOOLS, "reasoning_effort": "low"}}, "low"),
        # These have no effort `none`, or know nothing of it.
        ("gpt-6.1-sol", {"extra": TOOLS}, None),
        ("gpt-6-astra", {"extra": TOOLS}, None),
        ("qwen", {"temperature": 0.5, "extra": TOOLS}, None),
    ],
)
def test_a_model_that_refuses_tools_while_it_reasons_is_asked_not_to_reason(
    server: Upstream, model: str, asked: dict[str, Any], effort: str | None
) -> None:
    """Review 23"""
    pieces_of(model, **asked)
    assert server.last.get("reasoning_effort") == effort


def test_a_server_without_a_key_is_asked_with_the_key_none(upstream: Upstream, configure: Configure) -> None:
    configure(OPENAI_BASE_URL=upstream.url)
    assert pieces_of("words")
    assert upstream.headers["authorization"] == "Bearer none"


def test_a_server_that_is_not_there_is_unavailable_at_once(configure: Configure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    configure(OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1", CONNECT_SECONDS=60)
    began = time.monotonic()
    assert failure_of("words", UpstreamUnavailable)
    assert time.monotonic() - began < 10


# How long it may take, and how much it may say


def test_a_server_that_does_not_take_the_connection_is_given_up(configure: Configure) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as waiting:
        waiting.connect(full.getsockname())
        port = full.getsockname()[1]
        configure(OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1", CONNECT_SECONDS=0.2)
        began = time.monotonic()
        failure_of("words", UpstreamTimeout)
        assert time.monotonic() - began < 10


def test_a_server_that_never_begins_is_given_up(server: Upstream, configure: Configure) -> None:
    configure(FIRST_BYTE_SECONDS=0.3)
    assert pieces_of("words")
    assert failure_of("first-byte-never", UpstreamTimeout)[0] == []


def test_a_server_that_falls_silent_is_given_up_and_a_slow_one_is_not(
    server: Upstream, configure: Configure
) -> None:
    configure(BETWEEN_CHUNKS_SECONDS=0.3)
    assert pieces_of("slow-80")[-1] == llm.Finish("stop")  # 0.4 s in all
    assert failure_of("stall", UpstreamTimeout)[0] == TWO_WORDS


def test_a_reply_without_end_is_cut_at_the_total_deadline(server: Upstream, configure: Configure) -> None:
    configure(TOTAL_SECONDS=0.3)
    assert pieces_of("words")
    pieces, error = failure_of("endless", ReplyTruncated)
    assert pieces
    assert "CONVO_TOTAL_SECONDS" in error.message


def test_a_reader_who_thinks_does_not_use_up_the_server_s_time(
    server: Upstream, configure: Configure
) -> None:
    configure(BETWEEN_CHUNKS_SECONDS=0.2, FIRST_BYTE_SECONDS=0.2)

    async def think_once() -> llm.StreamEvent:
        reply = llm.stream(llm.ModelRequest(model="slow-10", messages=HELLO))
        await anext(reply)
        await asyncio.sleep(0.3)
        return [piece async for piece in reply][-1]

    assert asyncio.run(think_once()) == llm.Finish("stop")


def test_an_error_without_end_is_read_only_as_far_as_it_may_tell_something(
    server: Upstream, configure: Configure
) -> None:
    configure(FIRST_BYTE_SECONDS=5)
    assert "again again" in failure_of("endless-error", UpstreamUnavailable)[1].message


@pytest.mark.parametrize("model", ["endless", "huge-chunk"])
def test_a_reply_longer_than_allowed_is_cut(server: Upstream, configure: Configure, model: str) -> None:
    configure(MAX_REPLY_BYTES=2000)
    assert pieces_of("words")[-1] == llm.Finish("stop")
    pieces, error = failure_of(model, ReplyTruncated)
    assert len(text_of(pieces)) <= 2000
    assert "CONVO_MAX_REPLY_BYTES" in error.message


# Leaving


def test_closing_the_stream_closes_the_model_s_connection(server: Upstream) -> None:
    async def leave_after_the_first_word() -> bool:
        async with aclosing(llm.stream(llm.ModelRequest(model="stall", messages=HELLO))) as reply:
            assert await anext(reply) == TWO_WORDS[0]
            assert server.active == 1
        return await asyncio.to_thread(server.idle.wait, 1)

    assert asyncio.run(leave_after_the_first_word())


@pytest.mark.parametrize("model", ["stall", "first-byte-never"])
def test_cancelling_the_reader_closes_the_model_s_connection(server: Upstream, model: str) -> None:
    async def cancel() -> bool:
        reading = asyncio.create_task(read([], model))
        assert await asyncio.to_thread(server.busy.wait, 5)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return await asyncio.to_thread(server.idle.wait, 1)

    assert asyncio.run(cancel())


def test_a_failed_reply_closes_the_model_s_connection(server: Upstream, configure: Configure) -> None:
    configure(BETWEEN_CHUNKS_SECONDS=0.1)

    async def fail() -> bool:
        with pytest.raises(UpstreamTimeout):
            await read([], "stall")
        return await asyncio.to_thread(server.idle.wait, 1)

    assert asyncio.run(fail())


# Frames


STREAM = (
    ': hello\r\ndata: {"a":\r\ndata: "家👩‍👧"}\r\n\r\n' + "event: x\nid: 3\ndata:tight\n\ndata: [DONE]\n\n"
).encode()
WHOLE = ['{"a":\n"家👩‍👧"}'.encode(), b"tight", b"[DONE]"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_frames_are_the_same_wherever_the_network_cut_them(size: int) -> None:
    frames = FrameSplitter(max_bytes=1000)
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [data for chunk in chunks for data in frames.feed(chunk)] == WHOLE


def test_a_line_without_end_is_not_collected_for_ever() -> None:
    frames = FrameSplitter(max_bytes=10)
    assert frames.feed(b"data: 1234") == []
    with pytest.raises(ReplyTruncated):
        frames.feed(b"5")


# Embeddings


def test_each_text_gets_its_vector(server: Upstream, configure: Configure) -> None:
    configure(EMBEDDING_MODEL="vectors")
    cat, cats_twin, bridge = asyncio.run(llm.embed(["a black cat", "a cat, black", "the old bridge"]))
    assert cat == cats_twin != bridge
    assert server.last["model"] == "vectors"
    assert asyncio.run(llm.embed([])) == []


def test_without_an_embedding_model_the_error_names_the_variable(
    server: Upstream, configure: Configure
) -> None:
    configure(EMBEDDING_MODEL="")
    with pytest.raises(NotConfigured, match="CONVO_EMBEDDING_MODEL"):
        asyncio.run(llm.embed(["a cat"]))


def test_without_a_server_there_are_no_embeddings(configure: Configure) -> None:
    configure(EMBEDDING_MODEL="vectors")
    with pytest.raises(NotConfigured, match="OPENAI_API_KEY"):
        asyncio.run(llm.embed(["a cat"]))


def test_embeddings_fail_by_the_same_names(server: Upstream, configure: Configure) -> None:
    configure(EMBEDDING_MODEL="vectors", OPENAI_BASE_URL=server.url + "/nowhere")
    with pytest.raises(UpstreamRejected):
        asyncio.run(llm.embed(["a cat"]))


# Without a model


@pytest.mark.parametrize(
    ("changed", "model"),
    [
        ({}, "offline"),
        ({"MODEL": "qwen"}, "offline"),
        ({"OPENAI_API_KEY": "k"}, "gpt-6-luna"),
        ({"OPENAI_API_KEY": "k", "MODEL": "qwen"}, "qwen"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "MODEL": "qwen"}, "qwen"),
    ],
)
def test_the_default_model_is_the_one_that_will_answer(
    configure: Configure, changed: dict[str, str], model: str
) -> None:
    configure(**changed)
    assert llm.default_model() == model


def offline(*said: str, role: str = "user") -> str:
    """What the offline responder answers to the last of these."""
    messages = [{"role": role, "content": text} for text in said[:-1]]
    return text_of(pieces_of("offline", messages=[*messages, {"role": "user", "content": said[-1]}]))


BIKES = "I am choosing between the Trek for 700 euros and the Giant for 650 euros."


@pytest.fixture
def without_a_model(configure: Configure) -> None:
    configure(OFFLINE_WORD_SECONDS=0)


@pytest.mark.usefixtures("without_a_model")
def test_the_offline_responder_says_first_that_no_model_is_configured() -> None:
    first_sentence = offline("Good morning!").split(". ")[0]
    assert "No model is configured" in first_sentence
    assert "OPENAI_API_KEY" in first_sentence
    assert "OPENAI_BASE_URL" in first_sentence


@pytest.mark.usefixtures("without_a_model")
@pytest.mark.parametrize(
    ("earlier", "question"),
    [
        ("My cat is called Miso.", "What is the name of my cat?"),
        ("I feed my cats twice a day.", "How often does the cat eat?"),
        (BIKES, "Which of these is cheaper?"),
        ("Meine Katze heißt Miso.", "Wie heißt meine Katze?"),
        ("Моя кошка любит рыбу.", "Что любит моя кошка?"),
        ("我的猫叫小花。", "猫叫什么名字？"),
        ("私の犬の名前はポチです。", "犬の名前は？"),
        ("मेरी बिल्ली का नाम मीसो है।", "बिल्ली का नाम क्या है?"),
        ("قطتي اسمها ميسو", "ما اسم قطتي؟"),
        ("แมวของฉันชื่อมิโซะ", "แมวชื่ออะไร"),
    ],
)
def test_the_offline_responder_quotes_what_fits_and_not_the_question(earlier: str, question: str) -> None:
    answer = offline(earlier, "The weather is fine today!", question)
    assert f"“{earlier}”" in answer
    assert question not in answer
    assert "weather" not in answer


@pytest.mark.usefixtures("without_a_model")
def test_the_offline_responder_prefers_what_was_told_to_what_was_asked() -> None:
    answer = offline("Has my cat a name?", "My cat has the name Miso.", "What is my cat's name?")
    assert "Miso" in answer
    assert "Has my cat" not in answer


@pytest.mark.usefixtures("without_a_model")
def test_the_offline_responder_remembers_what_stands_alone_and_invites_more() -> None:
    assert "I will remember this." in offline("My cat is called Miso.")
    assert "I will remember this too." in offline("My cat is called Miso.", "It rains.")


@pytest.mark.usefixtures("without_a_model")
@pytest.mark.parametrize("role", ["system", "assistant"])
def test_the_offline_responder_quotes_only_what_the_user_said(role: str) -> None:
    said = ("The cat's secret name is Miso.", "What is the cat's name?")
    assert "Miso" in offline(*said)
    assert "Miso" not in offline(*said, role=role)


@pytest.mark.usefixtures("without_a_model")
def test_the_offline_responder_reads_what_memory_tells_it_and_the_question_alone() -> None:
    known = "[known] Facts.\n- Lives in Lisbon (since 2026-03-02)\n[end of: known]"
    old = "[recalled] Messages.\nOn 2026-03-02:\nuser: I sail a boat.\n[end of: recalled]"
    answer = offline(f"{old}\n\n{known}\n\nWhere in Lisbon is my boat?")
    assert answer.splitlines()[-2:] == ["“I sail a boat.”", "“Lives in Lisbon”"]


def test_the_offline_responder_quotes_the_part_of_a_long_message_that_fits() -> None:
    answer = offline("It rained all day. " * 50 + "The key is under the mat.", "Where is the key?")
    assert "The key is under the mat." in answer
    assert len(answer) < 500


@pytest.mark.usefixtures("without_a_model")
def test_the_offline_responder_reads_messages_made_of_parts() -> None:
    parts = [{"type": "text", "text": "My cat is called Miso."}, {"type": "image_url", "image_url": {}}]
    messages = [{"role": "user", "content": parts}, {"role": "user", "content": "What is my cat called?"}]
    assert "“My cat is called Miso.”" in text_of(pieces_of("offline", messages=messages))


@pytest.mark.usefixtures("without_a_model")
def test_the_offline_responder_writes_word_by_word_and_counts_its_words() -> None:
    pieces = pieces_of("offline")
    text = text_of(pieces)
    assert [piece.text.strip() for piece in pieces if isinstance(piece, llm.TextDelta)] == text.split()
    assert pieces[-2:] == [
        llm.Usage(input_tokens=count("hello out there"), output_tokens=count(text), cached_tokens=0),
        llm.Finish("stop"),
    ]


def test_the_offline_responder_takes_its_time_between_words(configure: Configure) -> None:
    configure(OFFLINE_WORD_SECONDS=0.005)
    began = time.monotonic()
    words = text_of(pieces_of("offline")).split()
    assert time.monotonic() - began >= 0.005 * len(words)
