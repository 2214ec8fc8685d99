"""/v1/chat/completions with the real client: stateless as it is, or with a session that remembers."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import openai
import pytest
from django.utils import timezone
from openai import OpenAI

from convo import verify
from convo.models import AgentVersion, Message, Session, Turn, TurnRequest
from tests.conftest import Serve
from tests.faults import wait_until
from tests.servers import Server, client_of
from tests.support.rest import rows
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture
def server(share: Serve, upstream: Upstream) -> Server:
    return share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="echo", CONVO_AGENTS_FILE="tests/agents.yaml")


@pytest.fixture
def client(server: Server, alice_key: str) -> Iterator[OpenAI]:
    with openai_of(server, alice_key) as client:
        yield client


@pytest.fixture
def http(server: Server, alice_key: str) -> Iterator[httpx2.Client]:
    with client_of(server, alice_key) as http:
        yield http


def openai_of(server: Server, key: str) -> OpenAI:
    return OpenAI(
        api_key=key, base_url=f"{server.url}/v1", max_retries=0, _strict_response_validation=True, timeout=20
    )


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def assistant(text: str) -> Any:
    return {"role": "assistant", "content": text}


def system(text: str) -> Any:
    return {"role": "system", "content": text}


def text_of(completion: Any) -> str:
    return str(completion.choices[0].message.content)


class Talk:
    """A client that talks in one session, and knows its id from the first answer on."""

    def __init__(self, client: OpenAI, id: str = "new") -> None:
        self.client, self.id = client, id

    def say(self, *messages: Any, model: str = "echo", **options: Any) -> Any:
        headers = {"X-Convo-Session": self.id}
        completions = self.client.chat.completions.with_raw_response
        raw = completions.create(model=model, messages=messages, extra_headers=headers, **options)
        self.id = raw.headers["x-convo-session"]
        return raw.parse()

    @property
    def session(self) -> Session:
        return Session.objects.get(pk=self.id.removeprefix("conv_"))

    @property
    def transcript(self) -> list[tuple[str, str]]:
        return [(row.role, row.content.strip()) for row in Message.objects.transcript(self.session)]


# Stateless.


def test_a_completion_sends_the_prompt_as_it_was_given_and_stores_nothing_of_it(
    client: OpenAI, upstream: Upstream
) -> None:
    messages = [
        system("Be brief."),
        user("Hi"),
        assistant("Hello."),
        system("Really."),
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "And now?"}]},
    ]
    found = client.chat.completions.create(
        model="some/model",
        messages=messages,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=["END"],
        max_completion_tokens=99,
        extra_body={"top_k": 5},
    )
    assert upstream.last["messages"] == messages
    sent = {name: upstream.last[name] for name in ("model", "temperature", "top_p", "seed", "stop", "top_k")}
    assert sent == {
        "model": "some/model",
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["END"],
        "top_k": 5,
    }
    assert upstream.last["max_tokens"] == 99
    assert found.id.startswith("chatcmpl-")
    assert found.object == "chat.completion"
    assert found.model == "some/model"
    assert found.choices[0].finish_reason == "stop"
    assert "user: Hi" in text_of(found)
    assert found.usage is not None
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens > 0
    assert found._request_id is not None
    assert not Message.objects.exists()
    assert not TurnRequest.objects.exists()
    assert Turn.objects.get().input_tokens == found.usage.prompt_tokens


@pytest.mark.parametrize(("leaves", "status"), [(False, "complete"), (True, "cancelled")])
def test_a_completion_leaves_its_usage_alone_and_at_its_end(
    client: OpenAI, upstream: Upstream, leaves: bool, status: str
) -> None:
    client.chat.completions.create(model="words-1", messages=[user("Hi")])
    before = rows(but=AgentVersion)
    stream = client.chat.completions.create(model="hold", messages=[user("my secret")], stream=True)
    next(iter(stream))
    assert rows(but=AgentVersion) == before
    if leaves:
        stream.close()
    else:
        upstream.release()
        list(stream)
    wait_until(lambda: rows(but=AgentVersion) != before)
    assert rows(but=AgentVersion) == {**before, "Session": before["Session"] + 1, "Turn": before["Turn"] + 1}
    turn = Turn.objects.select_related("session__person").latest("pk")
    assert turn.status == status
    assert turn.output_tokens
    assert turn.started_at
    assert turn.first_token_at
    assert turn.finished_at
    assert turn.started_at < turn.first_token_at < turn.finished_at
    assert (turn.session.storage, turn.session.person.ref) == ("none", "")
    assert turn.agent_version_id
    assert "secret" not in str([vars(turn), vars(turn.session)])
    assert [finding for checked in verify.check_all() for finding in checked.findings] == []


def test_what_is_for_convo_does_not_reach_the_model_server(client: OpenAI, upstream: Upstream) -> None:
    client.chat.completions.create(
        model="echo",
        messages=[user("Hi")],
        user="ann",
        safety_identifier="ann",
        store=True,
        metadata={"topic": "greeting"},
        n=1,
        modalities=["text"],
        extra_body={"on_busy": "queue"},
    )
    theirs = {"model", "messages", "stream", "stream_options", "modalities"}
    assert set(upstream.last) == theirs


def test_tools_go_out_and_their_calls_come_back(client: OpenAI, upstream: Upstream) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    found = client.chat.completions.create(
        model="tool-call",
        messages=[user("?")],
        tools=tools,
        tool_choice="auto",
        parallel_tool_calls=True,
        response_format={"type": "json_object"},
    )
    assert upstream.last["tools"] == tools
    assert upstream.last["tool_choice"] == "auto"
    assert upstream.last["parallel_tool_calls"] is True
    assert upstream.last["response_format"] == {"type": "json_object"}
    message = found.choices[0].message
    assert message.content is None
    assert [(call.id, call.function.arguments) for call in message.tool_calls or ()] == [  # type: ignore[union-attr]
        ("call_paris", '{"city": "Paris"}'),
        ("call_rome", '{"city": "Rome"}'),
    ]
    assert found.choices[0].finish_reason == "tool_calls"


def test_a_stream_gives_the_same_in_chunks(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="words", messages=[user("Hi")], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].id.startswith("chatcmpl-")
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.role for chunk in chunks[1:-1]] == [None] * (len(chunks) - 2)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert said == "word1 word2 word3 word4 word5 "
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


def test_the_raw_stream_is_events_with_one_end(http: httpx2.Client) -> None:
    body = {"model": "words-2", "messages": [user("Hi")], "stream": True}
    with http.stream(
        "POST", "/v1/chat/completions", json=body, headers={"Accept": "application/json"}
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-request-id"].startswith("req_")
        lines = [line for line in raw.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    frames = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert all("usage" not in frame for frame in frames)
    assert [frame["choices"][0]["finish_reason"] for frame in frames] == [None, None, "stop"]


def test_streamed_calls_carry_their_index_and_begin_with_id_and_name(client: OpenAI) -> None:
    with client.chat.completions.stream(model="tool-call", messages=[user("?")]) as stream:
        events = list(stream)
        found = stream.get_final_completion()
    calls = found.choices[0].message.tool_calls or []
    assert [call.function.arguments for call in calls] == ['{"city": "Paris"}', '{"city": "Rome"}']
    assert [call.id for call in calls] == ["call_paris", "call_rome"]
    assert found.choices[0].finish_reason == "tool_calls"
    deltas = [
        call
        for event in events
        if event.type == "chunk" and event.chunk.choices
        for call in event.chunk.choices[0].delta.tool_calls or ()
    ]
    first = {delta.index: delta for delta in reversed(deltas)}
    assert [(index, first[index].id) for index in sorted(first)] == [(0, "call_paris"), (1, "call_rome")]
    assert all(delta.id is None for delta in deltas if delta is not first[delta.index])


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("model", "reason", "text"), [("length", "length", "one two "), ("null-content", "stop", "one two ")]
)
def test_limits_are_told_as_the_finish_reason(
    client: OpenAI, model: str, reason: str, text: str, *, streamed: bool
) -> None:
    found = completed(client, model, streamed=streamed)
    assert (found.choices[0].finish_reason, text_of(found)) == (reason, text)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_refusal_is_told_as_one(client: OpenAI, *, streamed: bool) -> None:
    message = completed(client, "refusal", streamed=streamed).choices[0].message
    assert (message.refusal, message.content) == ("I can't help with that.", None)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_what_is_cut_between_two_frames_arrives_whole(client: OpenAI, *, streamed: bool) -> None:
    found = completed(client, "surrogates", streamed=streamed)
    assert text_of(found) == "nul\ufffdlone\ufffd!pair😀low\ufffd👩‍👩‍👧 家"


def completed(client: OpenAI, model: str, *, streamed: bool) -> Any:
    if not streamed:
        return client.chat.completions.create(model=model, messages=[user("Hi")])
    with client.chat.completions.stream(model=model, messages=[user("Hi")]) as stream:
        for _ in stream:
            pass
        return stream.current_completion_snapshot


# A session.


def test_a_session_remembers_what_is_not_sent_again(client: OpenAI, upstream: Upstream) -> None:
    talk = Talk(client)
    talk.say(user("My cat is Tom."), model="words-1")
    talk.say(user("Who is Tom?"), model="words-1")
    assert upstream.last["messages"] == [user("My cat is Tom."), assistant("word1 "), user("Who is Tom?")]
    assert len(talk.transcript) == 4


def test_what_is_sent_again_is_not_counted_twice(client: OpenAI, upstream: Upstream) -> None:
    talk, told = Talk(client), []
    for number in range(4):
        told.append(user(f"Question {number}"))
        told.append(assistant(text_of(talk.say(*told, model="words-1"))))
        assert upstream.last["messages"] == told[:-1]
    assert [(row["role"], row["content"].strip()) for row in told] == talk.transcript


def test_a_long_session_reaches_the_model_whole_and_in_order(client: OpenAI, upstream: Upstream) -> None:
    items: Any = [said for n in range(30) for said in (user(f"Question {n}"), assistant(f"Answer {n}"))]
    conversation = client.conversations.create(items=items[:20])
    for start in (20, 40):
        client.conversations.items.create(conversation.id, items=items[start : start + 20])
    Talk(client, conversation.id).say(*items, user("And now?"))
    assert upstream.last["messages"] == [*items, user("And now?")]


def test_the_metadata_may_name_the_session(client: OpenAI, upstream: Upstream) -> None:
    first = client.chat.completions.with_raw_response.create(
        model="echo", messages=[user("One")], metadata={"session_id": "new"}
    )
    id = first.headers["x-convo-session"]
    assert id.startswith("conv_")
    with_hyphens = str(Session.objects.get().pk)
    for known in (id, with_hyphens):
        client.chat.completions.create(
            model="words-1", messages=[user(known)], metadata={"session_id": known}
        )
    assert [said["content"] for said in upstream.last["messages"] if said["role"] == "user"] == [
        "One",
        id,
        with_hyphens,
    ]


def test_an_empty_header_begins_a_session(client: OpenAI) -> None:
    assert Talk(client, "").say(user("Hi"))
    assert Session.objects.get().kind == Session.Kind.CONVERSATION


def test_a_new_session_takes_all_that_was_said_before(client: OpenAI, upstream: Upstream) -> None:
    told = [user("My cat is Tom."), assistant("Nice."), user("Who is Tom?")]
    talk = Talk(client)
    talk.say(*told)
    assert upstream.last["messages"] == told
    assert len(talk.transcript) == 4


def test_what_a_cleared_session_held_does_not_come_back(
    client: OpenAI, http: httpx2.Client, upstream: Upstream
) -> None:
    talk = Talk(client)
    first = talk.say(user("My cat is Tom."))
    assert http.delete(f"/api/v1/sessions/{talk.session.pk}/history/").status_code < 300
    talk.say(user("My cat is Tom."), assistant(text_of(first)), user("Who is Tom?"))
    assert upstream.last["messages"] == [user("Who is Tom?")]


def test_system_messages_act_for_one_call(client: OpenAI, upstream: Upstream) -> None:
    talk = Talk(client)
    talk.say(system("Be brief."), {"role": "developer", "content": "And kind."}, user("Hi"), model="words-1")
    assert upstream.last["messages"] == [system("Be brief.\n\nAnd kind."), user("Hi")]
    talk.say(user("Again"), model="words-1")
    assert upstream.last["messages"] == [user("Hi"), assistant("word1 "), user("Again")]
    assert {role for role, _ in talk.transcript} == {"user", "assistant"}


def test_a_question_sent_again_without_its_answer_is_answered_anew(
    client: OpenAI, upstream: Upstream
) -> None:
    talk = Talk(client)
    first = talk.say(user("One"), model="words-1")
    second = talk.say(user("Two"), model="words-2")
    before = [user("One"), assistant(text_of(first)), user("Two")]
    again = talk.say(*before, model="words-3")
    assert upstream.last["messages"] == before
    assert text_of(again) != text_of(second)
    assert talk.transcript[-2:] == [("user", "Two"), ("assistant", "word1 word2 word3")]
    assert len(talk.transcript) == 4
    assert Message.objects.filter(session=talk.session).count() == 5


def test_a_question_whose_answer_failed_is_asked_once(client: OpenAI, upstream: Upstream) -> None:
    talk = Talk(client)
    talk.say(user("One"), model="words-1")
    with pytest.raises(openai.APIStatusError):
        talk.say(user("Two"), model="500")
    talk.say(user("One"), assistant("word1 "), user("Two"), model="words-1")
    assert upstream.last["messages"] == [user("One"), assistant("word1 "), user("Two")]
    assert [text for role, text in talk.transcript if role == "user"] == ["One", "Two"]


def test_a_follow_up_to_an_answer_that_the_client_never_got_repeats_nothing(
    client: OpenAI, upstream: Upstream
) -> None:
    talk = Talk(client)
    talk.say(user("One"), model="words-1")
    talk.say(user("One"), user("Two"))
    assert upstream.last["messages"] == [user("One"), assistant("word1 "), user("Two")]


def test_an_answer_written_elsewhere_can_be_answered_anew(client: OpenAI, upstream: Upstream) -> None:
    conversation = client.conversations.create(items=[user("One"), assistant("Imported.")])
    talk = Talk(client, conversation.id)
    talk.say(user("One"), model="words-1")
    assert upstream.last["messages"] == [user("One")]
    assert talk.transcript == [("user", "One"), ("assistant", "word1")]


def test_tool_calls_and_their_results_stay_pairs(client: OpenAI, upstream: Upstream) -> None:
    talk = Talk(client)
    asked = talk.say(user("Weather?"), model="tool-call").choices[0].message
    calls = [call.to_dict() for call in asked.tool_calls]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": f"Sun {call['id']}"} for call in calls]
    whole = [user("Weather?"), {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    talk.say(*whole, model="words-1")
    assert upstream.last["messages"] == whole
    # Just the results are enough, and sent once more they ask for another answer.
    talk.say(*results, model="words-2")
    assert upstream.last["messages"] == whole
    talk.say(*whole, assistant("word1 word2 "), user("Thanks"), model="words-1")
    assert upstream.last["messages"] == [*whole, assistant("word1 word2 "), user("Thanks")]


def test_words_and_calls_of_one_message_are_known_again(client: OpenAI, upstream: Upstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "see", "arguments": "{}"}}
    words: Any = {"role": "assistant", "content": "Let me\n see."}
    calls: Any = {"role": "assistant", "content": None, "tool_calls": [call]}
    result: Any = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "A cat"}]}
    both: Any = {**words, "tool_calls": [call]}
    answered: Any = {**result, "content": "A cat"}
    for told in ([both], [words, calls], [{**both, "content": " Let me  see. "}]):
        talk = Talk(client)
        talk.say(user("Who?"), both, result, model="words-1")
        again = [user("Who?"), *told, result, assistant("word1 "), user("Sure?")]
        talk.say(*again, model="words-1")
        whole = [user("Who?"), words, calls, answered, assistant("word1 "), user("Sure?")]
        assert upstream.last["messages"] == whole
        # The same once more while the transcript ends with the calls themselves.
        ends = client.conversations.create(
            items=[user("Who?"), {"role": "assistant", "content": "Let me see."}]
        )
        Talk(client, ends.id).say(user("Who?"), words, user("Sure?"), model="words-1")
        assert upstream.last["messages"] == [user("Who?"), assistant("Let me see."), user("Sure?")]


def test_a_model_that_spoke_and_called_is_known_again(client: OpenAI, upstream: Upstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "see", "arguments": "{}"}}
    item = {"type": "function_call", "call_id": "call_1", "name": "see", "arguments": "{}"}
    result: Any = {"role": "tool", "tool_call_id": "call_1", "content": "A cat"}
    words = assistant("Let me see.")
    calls: Any = {"role": "assistant", "content": None, "tool_calls": [call]}
    new = [result, assistant("A cat."), user("Sure?")]
    for told in ([{**words, "tool_calls": [call]}], [words, calls]):
        items: Any = [user("Who?"), words, item]
        Talk(client, client.conversations.create(items=items).id).say(user("Who?"), *told, *new)
        assert upstream.last["messages"] == [user("Who?"), words, calls, *new]


def test_a_result_without_its_call_is_refused(client: OpenAI) -> None:
    talk = Talk(client)
    talk.say(user("One"), model="words-1")
    with pytest.raises(openai.BadRequestError, match="call_x"):
        talk.say({"role": "tool", "tool_call_id": "call_x", "content": "?"})
    with pytest.raises(openai.BadRequestError, match="call_x"):
        Talk(client).say({"role": "tool", "tool_call_id": "call_x", "content": "?"})
    assert len(talk.transcript) == 2


def test_another_image_with_the_same_words_is_a_new_question(client: OpenAI, upstream: Upstream) -> None:
    def shown(url: str) -> Any:
        image = {"type": "image_url", "image_url": {"url": url, "detail": "auto"}}
        return {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}

    talk = Talk(client)
    talk.say(shown("https://example.org/cat.png"), model="words-1")
    talk.say(shown("https://example.org/dog.png"), model="words-1")
    assert upstream.last["messages"] == [
        shown("https://example.org/cat.png"),
        assistant("word1 "),
        shown("https://example.org/dog.png"),
    ]


def test_an_agent_answers_as_itself(client: OpenAI, upstream: Upstream) -> None:
    found = client.chat.completions.create(model="agent/told", messages=[user("Hi")])
    assert upstream.last["model"] == "echo"
    assert upstream.last["messages"] == [system("Answer in verse."), user("Hi")]
    assert found.model == "agent/told"
    Talk(client).say(system("Be brief."), user("Hi"), model="agent/told")
    assert upstream.last["messages"] == [system("Answer in verse.\n\nBe brief."), user("Hi")]


def test_nobody_else_finds_a_session(client: OpenAI, server: Server, bob_key: str) -> None:
    talk = Talk(client)
    talk.say(user("Hi"), user="ann")
    talk.say(user("Again"), user="ann")
    with openai_of(server, bob_key) as bobs, pytest.raises(openai.NotFoundError):
        Talk(bobs, talk.id).say(user("Hi"))
    with pytest.raises(openai.NotFoundError):
        Talk(client, talk.id).say(user("Hi"), user="eve")
    for unknown in ("conv_" + "0" * 32, "nonsense", "conv_x"):
        with pytest.raises(openai.NotFoundError):
            Talk(client, unknown).say(user("Hi"))
    assert len(talk.transcript) == 4


def test_what_was_said_here_is_seen_everywhere(client: OpenAI, http: httpx2.Client) -> None:
    talk = Talk(client)
    talk.say(system("Be brief."), user("My cat is Tom."), model="words-1", user="ann")
    (session,) = http.get("/api/v1/sessions/?user=ann").json()["results"]
    assert f"conv_{session['id'].replace('-', '')}" == talk.id
    shown: list[Any] = list(client.conversations.items.list(talk.id, order="asc"))
    assert [item.content[0].text for item in shown] == ["My cat is Tom.", "word1 "]


def test_requests_at_the_same_time_leave_questions_with_their_answers(
    client: OpenAI, http: httpx2.Client
) -> None:
    talk = Talk(client)
    talk.say(user("One"), model="words-1")

    def ask(number: int) -> int:
        body = {"model": "slow-10", "messages": [user(f"Question {number}")]}
        headers = {"X-Convo-Session": talk.id}
        return http.post("/v1/chat/completions", json=body, headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(8)))
    assert set(statuses) <= {200, 400}
    assert [role for role, _ in talk.transcript] == ["user", "assistant"] * (1 + statuses.count(200))


def test_a_question_sent_several_times_at_once_is_there_once(client: OpenAI, http: httpx2.Client) -> None:
    talk = Talk(client)
    talk.say(user("One"), model="words-1")
    body = {"model": "slow-20", "messages": [user("Two")], "on_busy": "interrupt"}

    def ask(_: int) -> None:
        http.post("/v1/chat/completions", json=body, headers={"X-Convo-Session": talk.id})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert [text for role, text in talk.transcript if role == "user"] == ["One", "Two"]


def test_only_one_turn_runs_in_a_session(client: OpenAI, upstream: Upstream) -> None:
    talk = Talk(client)
    talk.say(user("One"), model="words-1")
    headers = {"X-Convo-Session": talk.id}
    stream = client.chat.completions.create(
        model="hold", messages=[user("Two")], stream=True, extra_headers=headers
    )
    for _ in range(2):
        next(stream)
    with pytest.raises(openai.BadRequestError) as refused:
        talk.say(user("Three"))
    assert (refused.value.code, refused.value.param) == ("conversation_locked", "conversation")
    seen = [user("One"), assistant("word1 "), user("Two"), assistant("first second ")]
    talk.say(*seen, user("Four"), extra_body={"on_busy": "interrupt"})
    with pytest.raises(openai.APIError):
        list(stream)
    assert [text for role, text in talk.transcript if role == "user"] == ["One", "Two", "Four"]
    assert upstream.last["messages"] == [*seen, user("Four")]


def test_a_running_answer_can_be_taken_back_and_asked_anew(client: OpenAI, upstream: Upstream) -> None:
    talk = Talk(client)
    talk.say(user("One"), model="words-1")
    stream = client.chat.completions.create(
        model="hold", messages=[user("Two")], stream=True, extra_headers={"X-Convo-Session": talk.id}
    )
    next(iter(stream))
    talk.say(
        user("One"),
        assistant("word1"),
        user("Two"),
        model="words-2",
        extra_body={"on_busy": "interrupt"},
    )
    assert upstream.last["messages"] == [user("One"), assistant("word1 "), user("Two")]
    assert talk.transcript[-2:] == [("user", "Two"), ("assistant", "word1 word2")]


def test_a_question_may_wait_in_line(client: OpenAI, upstream: Upstream) -> None:
    talk = Talk(client)
    talk.say(user("One"), model="words-1")
    headers = {"X-Convo-Session": talk.id}
    first = client.chat.completions.create(
        model="hold", messages=[user("Two")], stream=True, extra_headers=headers
    )
    next(iter(first))
    turns = Turn.objects.filter(session=talk.session)
    second = client.chat.completions.with_streaming_response.create(
        model="words-1", messages=[user("Three")], extra_headers=headers, extra_body={"on_busy": "queue"}
    )
    answered: list[Any] = []

    def ask() -> None:
        with second as response:
            answered.append(response.parse())

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: turns.filter(status="queued").exists())
    upstream.release()
    list(first)
    asking.join(20)
    assert answered
    assert upstream.last["messages"][-3:] == [user("Two"), assistant("first second last"), user("Three")]


# Breaking off.


@pytest.mark.parametrize("in_session", [True, False], ids=["in a session", "alone"])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("401", 502, "upstream_rejected"),
        ("404", 404, "model_not_found"),
        ("429", 429, "upstream_rate_limited"),
        ("500", 502, "upstream_unavailable"),
        ("html", 502, "upstream_protocol_error"),
    ],
)
def test_a_model_server_that_does_not_answer_is_told_by_the_status(
    client: OpenAI, model: str, status: int, code: str, *, streamed: bool, in_session: bool
) -> None:
    headers = {"X-Convo-Session": "new"} if in_session else {}
    with pytest.raises(openai.APIStatusError) as failed:
        client.chat.completions.create(
            model=model, messages=[user("Hi")], stream=streamed, extra_headers=headers
        )
    assert (failed.value.status_code, failed.value.code) == (status, code)
    told = failed.value.response.headers
    assert told.get("retry-after") == ("7" if status == 429 else None)
    assert told.get("x-convo-session", "").startswith("conv_" if in_session else "")
    # A refused key is refused again, whoever asks.
    assert told.get("x-should-retry") == ("false" if in_session or model == "401" else None)
    assert failed.value.request_id is not None


@pytest.mark.parametrize("model", ["drop", "silent-end", "malformed", "error-in-stream"])
def test_a_stream_that_breaks_off_is_never_a_whole_answer(
    client: OpenAI, http: httpx2.Client, model: str
) -> None:
    body = {"model": model, "messages": [user("Hi")], "stream": True}
    raw = http.post("/v1/chat/completions", json=body).text
    assert "[DONE]" not in raw
    assert '"finish_reason": "' not in raw
    assert set(json.loads(raw.split("data: ")[-1])["error"]) == {"message", "type", "param", "code"}
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model=model, messages=[user("Hi")], stream=True))
    with pytest.raises(openai.APIStatusError) as failed:
        client.chat.completions.create(model=model, messages=[user("Hi")])
    assert failed.value.status_code == 502


def test_each_chunk_has_the_bytes_of_its_json(http: httpx2.Client) -> None:
    """All chunks but the first are made from a template."""
    said = 'a "b" \\ <c>\n\u2028 家👩 \x7f' * 3
    body = {"model": "parrot", "messages": [user(said)], "stream": True}
    for options in ({}, {"stream_options": {"include_usage": True}}):
        lines = http.post("/v1/chat/completions", json={**body, **options}).text.split("\n\n")[:-2]
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert lines == [f"data: {json.dumps(chunk, ensure_ascii=False)}" for chunk in chunks]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        assert "".join(delta.get("content") or "" for delta in deltas) == said
        assert len(deltas) > 10
        assert {len(chunk) for chunk in chunks[:-1]} == {5 + len(options)}


@pytest.mark.parametrize("in_session", [True, False], ids=["in a session", "alone"])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", ["hold", "first-byte-never"])
def test_a_reader_that_leaves_stops_the_model(
    http: httpx2.Client, upstream: Upstream, model: str, *, streamed: bool, in_session: bool
) -> None:
    body = {"model": model, "messages": [user("Hi")], "stream": streamed}
    headers = {"X-Convo-Session": "new"} if in_session else {}
    with pytest.raises(httpx2.TimeoutException):
        http.post("/v1/chat/completions", json=body, headers=headers, timeout=2)
    assert upstream.heard
    wait_until(lambda: not upstream.active)
    wait_until(lambda: Turn.objects.filter(status=Turn.Status.CANCELLED).exists())
    kept = [row.content for row in Message.objects.filter(role="assistant")]
    assert kept == (["first second "] if in_session and model == "hold" else [])


def test_a_silent_stream_has_a_heartbeat(share: Serve, alice_key: str, upstream: Upstream) -> None:
    server = share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold", CONVO_SSE_HEARTBEAT_SECONDS="0.1")
    body = {"model": "hold", "messages": [user("Hi")], "stream": True}
    lines = []
    with (
        client_of(server, alice_key) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        for line in response.iter_lines():
            lines.append(line)
            if line == ": hb":
                upstream.release()
    assert ": hb" in lines
    assert lines[-2] == "data: [DONE]"


# What is refused.

HI = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"messages": HI}, "missing_required_parameter", "model"),
        ({"model": 7, "messages": HI}, "invalid_type", "model"),
        ({"model": "", "messages": HI}, "invalid_value", "model"),
        ({"model": "x" * 201, "messages": HI}, "invalid_value", "model"),
        ({"model": "echo"}, "missing_required_parameter", "messages"),
        ({"model": "echo", "messages": []}, "invalid_value", "messages"),
        ({"model": "echo", "messages": "Hi"}, "invalid_type", "messages"),
        ({"model": "echo", "messages": ["Hi"]}, "invalid_type", "messages[0]"),
        ({"messages": [{"content": "Hi"}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "invalid_value", "messages[0].role"),
        (
            {"messages": [{"role": "function", "name": "f", "content": "x"}]},
            "invalid_value",
            "messages[0].role",
        ),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "invalid_value", "messages[0].content"),
        (
            {"messages": [*HI, *HI, {"role": "user", "content": [{"type": "smell"}]}]},
            "invalid_value",
            "messages[2].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "invalid_value",
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "missing_required_parameter",
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "invalid_type",
            "messages[0].content[0].image_url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
            "invalid_value",
            "messages[0].content[0].file",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "missing_required_parameter",
            "messages[0].tool_call_id",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]}]},
            "invalid_value",
            "messages[0].tool_calls[0].type",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}]},
            "missing_required_parameter",
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"messages": HI, "n": 2}, "invalid_value", "n"),
        ({"messages": HI, "modalities": ["text", "audio"]}, "invalid_value", "modalities[1]"),
        ({"messages": HI, "functions": [{"name": "f"}]}, "invalid_value", "functions"),
        ({"messages": HI, "stream": "yes"}, "invalid_type", "stream"),
        ({"messages": HI, "store": 1}, "invalid_type", "store"),
        ({"messages": HI, "temperature": "hot"}, "invalid_type", "temperature"),
        ({"messages": HI, "max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"messages": HI, "tools": {}}, "invalid_type", "tools"),
        ({"messages": HI, "tools": [{"type": "custom"}]}, "unsupported_value", "tools[0].type"),
        (
            {"messages": HI, "tools": [{"type": "function"}]},
            "missing_required_parameter",
            "tools[0].function",
        ),
        ({"messages": HI, "stop": 7}, "invalid_type", "stop"),
        ({"messages": HI, "metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"messages": HI, "on_busy": "wait"}, "invalid_value", "on_busy"),
        ({"messages": HI, "x": 1e999}, "invalid_value", "x"),
        ({"messages": HI, "top_p": -1e999}, "invalid_value", "top_p"),
        (
            {
                "messages": HI,
                "tools": [{"type": "function", "function": {"name": "f", "parameters": [1e999]}}],
            },
            "invalid_value",
            "tools[0].function.parameters[0]",
        ),
    ],
)
def test_mistakes_are_refused_with_their_place(
    http: httpx2.Client, upstream: Upstream, body: dict[str, Any], code: str, param: str
) -> None:
    content = json.dumps(
        {**({} if set(body) & {"model"} or body == {"messages": HI} else {"model": "echo"}), **body}
    )
    response = http.post("/v1/chat/completions", content=content.replace("Infinity", "1e999"))
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error"
    assert not upstream.heard
    assert not Session.objects.exists()


def test_an_unknown_agent_is_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="agent/nobody", messages=HI)  # type: ignore[arg-type]
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_in_a_session_something_must_be_asked(client: OpenAI, upstream: Upstream) -> None:
    talk = Talk(client)
    talk.say(user("One"), model="words-1")
    for messages in ([system("Be brief.")], [user("One"), assistant("word1")]):
        with pytest.raises(openai.BadRequestError, match="There is no question"):
            talk.say(*messages)
    assert len(upstream.heard) == 1


# Once.


@pytest.mark.parametrize("in_session", [True, False], ids=["in a session", "alone"])
def test_a_request_sent_twice_under_one_key_is_answered_once(
    client: OpenAI, http: httpx2.Client, upstream: Upstream, *, in_session: bool
) -> None:
    session = {"X-Convo-Session": "new"} if in_session else {}
    headers = {"Idempotency-Key": "one", **session}
    body = {"model": "words-2", "messages": HI}
    first = http.post("/v1/chat/completions", json=body, headers=headers)
    second = http.post("/v1/chat/completions", json=body, headers=headers)
    assert first.status_code == 200
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers.get("x-convo-session") == first.headers.get("x-convo-session")
    if not in_session:
        expires_at = Session.objects.get().expires_at
        assert expires_at is not None
        assert expires_at < timezone.now() + timedelta(hours=25)
        assert not list(client.chat.completions.list())
    assert len(upstream.heard) == 1
    other = http.post("/v1/chat/completions", json={**body, "model": "echo"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")
    assert Session.objects.count() == 1


def test_a_stream_sent_twice_under_one_key_is_told_twice(http: httpx2.Client, upstream: Upstream) -> None:
    body = {"model": "words-3", "messages": HI, "stream": True}
    headers = {"Idempotency-Key": "one"}
    first = http.post("/v1/chat/completions", json=body, headers=headers)
    second = http.post("/v1/chat/completions", json=body, headers=headers)
    assert first.text == second.text
    assert first.text.endswith("data: [DONE]\n\n")
    assert len(upstream.heard) == 1


def test_a_running_stream_can_be_joined_under_its_key(
    server: Server, alice_key: str, upstream: Upstream
) -> None:
    body = {"model": "hold", "messages": HI, "stream": True}

    def read() -> str:
        with client_of(server, alice_key) as http:
            return http.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "one"}).text

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(read)
        wait_until(lambda: upstream.heard and Turn.objects.filter(status="running").exists())
        second = pool.submit(read)
        upstream.release()
        assert first.result() == second.result()
    assert first.result().endswith("data: [DONE]\n\n")
    assert len(upstream.heard) == 1


def test_another_session_is_another_request(client: OpenAI, http: httpx2.Client) -> None:
    one, two = Talk(client), Talk(client)
    for talk in (one, two):
        talk.say(user("One"), model="words-1")
    body = {"model": "words-1", "messages": [user("Two")]}
    statuses = [
        http.post(
            "/v1/chat/completions", json=body, headers={"Idempotency-Key": "one", "X-Convo-Session": talk.id}
        ).status_code
        for talk in (one, two, one)
    ]
    assert statuses == [200, 400, 200]


def test_a_failed_request_is_asked_again_under_its_key(http: httpx2.Client, upstream: Upstream) -> None:
    headers = {"Idempotency-Key": "one"}
    body = {"model": "500", "messages": HI}
    for _ in range(2):
        assert http.post("/v1/chat/completions", json=body, headers=headers).status_code == 502
    assert len(upstream.heard) == 2
    assert upstream.last["messages"] == HI


def test_a_refusal_stays_one_under_its_key(http: httpx2.Client) -> None:
    headers = {"Idempotency-Key": "one"}
    body = {"model": "echo", "messages": []}
    answers = [http.post("/v1/chat/completions", json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("in_session", [True, False], ids=["in a session", "alone"])
def test_a_completion_that_was_deleted_is_gone_under_its_key(
    http: httpx2.Client, upstream: Upstream, *, in_session: bool
) -> None:
    session = {"X-Convo-Session": "new"} if in_session else {}
    headers = {"Idempotency-Key": "one", **session}
    body = {"model": "words-2", "messages": HI, "store": True}
    first, again = (http.post("/v1/chat/completions", json=body, headers=headers) for _ in range(2))
    assert (again.status_code, again.json()) == (200, first.json())
    assert http.delete(f"/v1/chat/completions/{first.json()['id']}").status_code == 200
    late = http.post("/v1/chat/completions", json=body, headers=headers)
    assert (late.status_code, late.json()["error"]["code"]) == (410, "deleted")
    assert len(upstream.heard) == 1


def test_a_change_sent_twice_under_one_key_is_answered_alike(client: OpenAI, http: httpx2.Client) -> None:
    path = f"/v1/chat/completions/{stored(client, 'One', topic='a').id}"
    change, headers = {"metadata": {"topic": "b"}}, {"Idempotency-Key": "one"}
    first, again = (http.post(path, json=change, headers=headers) for _ in range(2))
    assert first.json()["metadata"] == {"topic": "b"}
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"


# Stored completions.


def stored(client: OpenAI, text: str, model: str = "words-1", **metadata: str) -> Any:
    return client.chat.completions.create(model=model, messages=[user(text)], store=True, metadata=metadata)


def test_stored_completions_can_be_seen_changed_and_deleted(client: OpenAI) -> None:
    made = stored(client, "One", topic="a")
    client.chat.completions.create(model="words-1", messages=[user("Not stored")])
    assert [found.id for found in client.chat.completions.list()] == [made.id]
    found = client.chat.completions.retrieve(made.id)
    assert found.choices == made.choices
    assert found.usage == made.usage
    changed = client.chat.completions.update(made.id, metadata={"topic": "b"})
    assert changed.to_dict()["metadata"] == {"topic": "b"}
    assert [found.id for found in client.chat.completions.list(metadata={"topic": "b"})] == [made.id]
    assert client.chat.completions.delete(made.id).deleted
    assert not list(client.chat.completions.list())
    for call in (client.chat.completions.retrieve, client.chat.completions.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    assert not Message.objects.filter(erased_at=None).exists()


def test_the_list_has_pages_and_filters(client: OpenAI) -> None:
    made = [stored(client, f"Text {n}", f"words-{n % 2 + 1}", kind=f"k{n % 2}") for n in range(5)]
    ids = [completion.id for completion in made]
    assert [found.id for found in client.chat.completions.list(limit=2)] == ids
    assert [found.id for found in client.chat.completions.list(limit=2, order="desc")] == ids[::-1]
    assert [found.id for found in client.chat.completions.list(model="words-2")] == ids[1::2]
    assert [found.id for found in client.chat.completions.list(limit=1, metadata={"kind": "k0"})] == ids[::2]
    page = client.chat.completions.list(limit=2, after=ids[1])
    assert ([found.id for found in page.data], page.has_more) == (ids[2:4], True)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.list(after="chatcmpl-" + "0" * 32)


def test_the_messages_of_a_stored_completion_are_those_that_were_sent(
    server: Server, alice_key: str, http: httpx2.Client
) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png", "detail": "low"}}
    call = {"id": "call_1", "type": "function", "function": {"name": "see", "arguments": "{}"}}
    messages = [
        system("Be brief."),
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "Who?"}, image]},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "A cat"},
    ]
    body = {"model": "words-1", "messages": messages, "store": True}
    id = http.post("/v1/chat/completions", json=body).json()["id"]
    found = http.get(f"/v1/chat/completions/{id}/messages").json()
    assert [entry["id"] for entry in found["data"]] == [f"{id}-{n}" for n in range(4)]
    assert [entry["role"] for entry in found["data"]] == [said["role"] for said in messages]
    assert [entry["content"] for entry in found["data"]] == ["Be brief.", "Who?", "Let me see.", "A cat"]
    assert found["data"][1]["content_parts"] == messages[1]["content"]
    assert found["data"][1]["name"] == "ann"
    assert found["data"][2]["tool_calls"] == [call]
    assert found["data"][3]["tool_call_id"] == "call_1"
    page = http.get(f"/v1/chat/completions/{id}/messages?limit=2&after={id}-0&order=asc").json()
    assert [entry["id"] for entry in page["data"]] == [f"{id}-1", f"{id}-2"]
    assert page["has_more"] is True


def test_stored_completions_are_the_owners_alone(client: OpenAI, server: Server, bob_key: str) -> None:
    made = stored(client, "One")
    with openai_of(server, bob_key) as bob:
        assert not list(bob.chat.completions.list())
        for call in (
            bob.chat.completions.retrieve,
            bob.chat.completions.delete,
            bob.chat.completions.messages.list,
        ):
            with pytest.raises(openai.NotFoundError):
                call(made.id)
        with pytest.raises(openai.NotFoundError):
            bob.chat.completions.update(made.id, metadata={})
    assert client.chat.completions.retrieve(made.id).id == made.id


def test_what_broke_off_is_not_among_the_stored(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError):
        stored(client, "One", "drop")
    assert not list(client.chat.completions.list())
    assert stored(client, "One", "length").id in [found.id for found in client.chat.completions.list()]


def test_deleting_a_stored_completion_leaves_its_session(client: OpenAI) -> None:
    talk = Talk(client)
    made = talk.say(user("One"), model="words-1", store=True)
    assert client.chat.completions.retrieve(made.id).choices == made.choices
    client.chat.completions.delete(made.id)
    assert talk.transcript == [("user", "One"), ("assistant", "word1")]
