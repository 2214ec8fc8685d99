"""The openai-agents SDK on Convo: its own session, a conversation's id, a response's id; tools; streams."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIConversationsSession,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    RunResult,
    RunResultStreaming,
    function_tool,
)
from agents.exceptions import ModelBehaviorError
from django.contrib.auth.models import AbstractBaseUser
from openai import APIError, AsyncOpenAI, BadRequestError, NotFoundError

from convo.models import Session
from tests.conftest import Serve
from tests.corpus import DATA_URI
from tests.prompts import told
from tests.talk import said
from tests.upstream import Upstream

# With one database is enough: they are about what other people's clients make of the answers.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

UNTRACED = RunConfig(tracing_disabled=True)
WAYS = ["session", "conversation_id", "previous_response_id", "auto_previous_response_id"]
QUESTIONS = ["Hello.", "Weather in Paris and Rome?", "Oslo, then Rome?", "Thanks."]
# What the model must have been told when it is asked the last question.
EVERYTHING = [
    "system: Be brief.",
    "user: Hello.",
    "assistant: Heard: Hello.",
    "user: Weather in Paris and Rome?",
    'calls: call_0_Paris{"city": "Paris"} call_1_Rome{"city": "Rome"}',
    "tool call_0_Paris: sunny in Paris",
    "tool call_1_Rome: sunny in Rome",
    "assistant: Heard: sunny in Rome",
    "user: Oslo, then Rome?",
    'calls: call_2_Oslo{"city": "Oslo"}',
    "tool call_2_Oslo: sunny in Oslo",
    'calls: call_3_Rome{"city": "Rome"}',
    "tool call_3_Rome: sunny in Rome",
    "assistant: Heard: sunny in Rome",
    "user: Thanks.",
]

SIXTY: list[Any] = [
    {"role": "assistant" if number % 3 == 0 else "user", "content": f"line {number}"}
    for number in range(1, 61)
]
PICTURE = {"type": "input_image", "image_url": DATA_URI, "detail": "auto"}
MIXED: list[Any] = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look."}, PICTURE]},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Rome"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
]

Talk = Callable[[AsyncOpenAI], Awaitable[None]]
Talks = Callable[[Talk], None]


@pytest.fixture
def talks(share: Serve, upstream: Upstream, alice_key: str) -> Talks:
    """Runs what is said with a client of Alice's."""
    server = share(OPENAI_BASE_URL=upstream.url)

    def run(talk: Talk) -> None:
        async def connected() -> None:
            async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=alice_key, max_retries=0) as client:
                await talk(client)

        asyncio.run(connected())

    return run


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def agent_of(client: AsyncOpenAI, **fields: Any) -> Agent[None]:
    model = OpenAIResponsesModel(fields.pop("model", "weather"), client)
    return Agent(name="Sky", model=model, **{"instructions": "Be brief.", "tools": [weather], **fields})


@dataclass
class Speaker:
    """Puts one question after the other to an agent, in one way of carrying the context."""

    client: AsyncOpenAI
    way: str
    streamed: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    async def begin(self) -> None:
        if self.way == "session":
            self.options = {"session": OpenAIConversationsSession(openai_client=self.client)}
        if self.way == "conversation_id":
            self.options = {"conversation_id": (await self.client.conversations.create()).id}
        if self.way == "auto_previous_response_id":
            self.options = {"auto_previous_response_id": True}

    async def ask(self, question: str) -> str:
        found = await run(agent_of(self.client), question, streamed=self.streamed, **self.options)
        if self.way.endswith("previous_response_id"):
            self.options["previous_response_id"] = found.last_response_id
        return str(found.final_output)


def texts(items: Iterable[Any]) -> list[str]:
    return [item["content"][0]["text"] for item in items]


async def run(
    agent: Agent[None], question: Any, *, streamed: bool = False, **options: Any
) -> RunResult | RunResultStreaming:
    if not streamed:
        return await Runner.run(agent, question, run_config=UNTRACED, **options)
    running = Runner.run_streamed(agent, question, run_config=UNTRACED, **options)
    heard = ""
    async for event in running.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            heard += event.data.delta
    assert heard == running.final_output
    return running


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("way", WAYS)
def test_an_agent_with_tools_is_told_everything_once_and_in_order(
    talks: Talks, upstream: Upstream, way: str, streamed: bool
) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        speaker = Speaker(client, way, streamed)
        await speaker.begin()
        answers = [await speaker.ask(question) for question in QUESTIONS]
        assert answers == ["Heard: Hello.", *["Heard: sunny in Rome"] * 2, "Heard: Thanks."]

    talks(talk)
    assert told(upstream.last) == EVERYTHING


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_session_of_sixty_items_reaches_the_model_whole_and_in_order(
    talks: Talks, upstream: Upstream, streamed: bool
) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        session = OpenAIConversationsSession(openai_client=client)
        await session.add_items(SIXTY)
        assert texts(await session.get_items()) == [item["content"] for item in SIXTY]
        assert texts(await session.get_items(25)) == [item["content"] for item in SIXTY[-25:]]
        assert await session.get_items(0) == []
        await run(agent_of(client, tools=[]), "And now?", streamed=streamed, session=session)
        assert texts(await session.get_items())[-2:] == ["And now?", "Heard: And now?"]

    talks(talk)
    lines = [f"{item['role']}: {item['content']}" for item in SIXTY]
    assert told(upstream.last) == ["system: Be brief.", *lines, "user: And now?"]


def test_what_is_popped_off_a_session_is_gone_and_given_back(talks: Talks) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        session = OpenAIConversationsSession(openai_client=client)
        assert await session.pop_item() is None
        await session.add_items(SIXTY[:22])
        assert texts([await session.pop_item(), await session.pop_item()]) == ["line 22", "line 21"]
        assert texts(await session.get_items()) == [item["content"] for item in SIXTY[:20]]
        await session.add_items([])
        await session.add_items(SIXTY[40:41])
        assert texts(await session.get_items(2)) == ["line 20", "line 41"]

    talks(talk)


def test_a_cleared_session_begins_a_new_conversation(talks: Talks, upstream: Upstream) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        session = OpenAIConversationsSession(openai_client=client)
        await run(agent_of(client), "Hello.", session=session)
        before = session.session_id
        await session.clear_session()
        await run(agent_of(client), "Anew.", session=session)
        assert session.session_id != before
        with pytest.raises(NotFoundError):
            await client.conversations.retrieve(before)

    talks(talk)
    assert told(upstream.last) == ["system: Be brief.", "user: Anew."]


def test_tools_thoughts_and_pictures_come_back_from_a_session_as_they_were(
    talks: Talks, upstream: Upstream
) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        session = OpenAIConversationsSession(openai_client=client)
        await session.add_items(MIXED)
        found = [dict(item) for item in await session.get_items()]
        assert [{key: item[key] for key in sent} for item, sent in zip(found, MIXED, strict=True)] == MIXED
        await run(agent_of(client), "So?", session=session)

    talks(talk)
    assert told(upstream.last)[1:] == [
        'user: [{"type": "text", "text": "Look."}, '
        f'{{"type": "image_url", "image_url": {{"url": "{DATA_URI}", "detail": "auto"}}}}]',
        'calls: call_1{"city": "Rome"}',
        "tool call_1: sunny",
        "user: So?",
    ]


def test_a_session_is_a_conversation_for_every_other_way_in(
    talks: Talks, upstream: Upstream, alice: AbstractBaseUser
) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        session = OpenAIConversationsSession(openai_client=client)
        await run(agent_of(client), "Weather in Rome?", session=session)
        await run(agent_of(client), "Thanks.", conversation_id=session.session_id)

    talks(talk)
    assert told(upstream.last) == [
        "system: Be brief.",
        "user: Weather in Rome?",
        'calls: call_0_Rome{"city": "Rome"}',
        "tool call_0_Rome: sunny in Rome",
        "assistant: Heard: sunny in Rome",
        "user: Thanks.",
    ]
    (session,) = Session.objects.owned_by(alice)
    assert said(session)[-2:] == ["u:Thanks.", "a:Heard: Thanks."]


def test_a_conversation_that_is_busy_is_asked_again_until_it_is_free(
    talks: Talks, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "openai.agents")

    async def talk(client: AsyncOpenAI) -> None:
        conversation = (await client.conversations.create()).id
        options: Any = {"conversation": conversation, "model": "hold", "input": "Wait."}
        async with await client.responses.create(stream=True, **options) as stream:
            await anext(event async for event in stream if event.type == "response.output_text.delta")
            with pytest.raises(BadRequestError) as caught:
                await client.responses.create(**options)
            assert caught.value.code == "conversation_locked"
            second = asyncio.create_task(run(agent_of(client), "Me too.", conversation_id=conversation))
            while "Conversation locked, retrying" not in caplog.text:
                await asyncio.sleep(0.01)
            upstream.release()
            async for _ in stream:
                pass
        assert (await second).final_output == "Heard: Me too."

    talks(talk)
    assert told(upstream.last)[1:] == ["user: Wait.", "assistant: first second last", "user: Me too."]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", ["silent-end", "drop", "length"])
def test_a_reply_that_broke_off_is_never_a_final_output(talks: Talks, model: str, streamed: bool) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        with pytest.raises((ModelBehaviorError, APIError)):
            await run(agent_of(client, model=model), "Hello.", streamed=streamed)

    talks(talk)


def test_an_agent_hands_over_to_another_in_the_same_conversation(talks: Talks, upstream: Upstream) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        session = OpenAIConversationsSession(openai_client=client)
        await run(agent_of(client), "Hello.", session=session)
        await run(agent_of(client, instructions="Be wordy."), "Who are you?", session=session)

    talks(talk)
    assert told(upstream.last) == [
        "system: Be wordy.",
        "user: Hello.",
        "assistant: Heard: Hello.",
        "user: Who are you?",
    ]


def test_a_response_can_be_gone_on_from_twice(talks: Talks, upstream: Upstream) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        first = await run(agent_of(client), "Hello.", auto_previous_response_id=True)
        for question in ["One.", "Two."]:
            await run(agent_of(client), question, previous_response_id=first.last_response_id)
            assert told(upstream.last)[1:] == [
                "user: Hello.",
                "assistant: Heard: Hello.",
                f"user: {question}",
            ]

    talks(talk)


def test_what_an_agent_is_to_put_out_reaches_the_model(talks: Talks, upstream: Upstream) -> None:
    async def talk(client: AsyncOpenAI) -> None:
        settings = ModelSettings(temperature=0.5, max_tokens=50, parallel_tool_calls=False)
        await run(agent_of(client, model_settings=settings), "Hello.")

    talks(talk)
    sent = upstream.last
    assert (sent["temperature"], sent["parallel_tool_calls"]) == (0.5, False)
    assert 50 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    assert sent["tools"][0]["function"]["name"] == "weather"
