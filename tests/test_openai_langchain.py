"""LangChain's ChatOpenAI on Convo: on from a response, with everything sent again, and chat completions."""

from collections.abc import Callable, Iterable
from typing import Any

import openai
import pytest
from django.contrib.auth.models import AbstractBaseUser
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from convo import turns
from tests.conftest import Serve
from tests.prompts import told
from tests.talk import said
from tests.upstream import Upstream

# With one database is enough: they are about what other people's clients make of the answers.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

WAYS: dict[str, dict[str, Any]] = {
    "previous_response_id": {"use_responses_api": True, "use_previous_response_id": True},
    "items sent again": {"use_responses_api": True, "output_version": "responses/v1"},
    "chat completions": {"use_responses_api": False},
}
QUESTIONS = ["Hello.", "Weather in Paris and Rome?", "Thanks."]
ANSWERS = ["Heard: Hello.", "Heard: sunny in Rome", "Heard: Thanks."]
EVERYTHING = [
    "system: Be brief.",
    "user: Hello.",
    "assistant: Heard: Hello.",
    "user: Weather in Paris and Rome?",
    'calls: call_0_Paris{"city": "Paris"} call_1_Rome{"city": "Rome"}',
    "tool call_0_Paris: sunny in Paris",
    "tool call_1_Rome: sunny in Rome",
    "assistant: Heard: sunny in Rome",
    "user: Thanks.",
]

Connect = Callable[..., ChatOpenAI]


@pytest.fixture
def connect(share: Serve, upstream: Upstream, alice_key: str) -> Connect:
    """A model with this way of carrying the context."""
    server = share(OPENAI_BASE_URL=upstream.url)

    def made(**options: Any) -> ChatOpenAI:
        options = {"model": "weather", "max_retries": 0, **options}
        return ChatOpenAI(base_url=f"{server.url}/v1", api_key=SecretStr(alice_key), **options)

    return made


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def talk(model: ChatOpenAI, *questions: str, streamed: bool) -> list[BaseMessage]:
    """Put these questions, do what the model calls for, and keep what was said, as an application does."""
    armed = model.bind_tools([weather])
    messages: list[BaseMessage] = [SystemMessage("Be brief.")]
    for question in questions:
        messages.append(HumanMessage(question))
        while True:
            reply = whole(armed.stream(messages)) if streamed else armed.invoke(messages)
            assert isinstance(reply, AIMessage)
            messages.append(reply)
            if not reply.tool_calls:
                break
            messages += [weather.invoke({**call, "type": "tool_call"}) for call in reply.tool_calls]
    return messages


def whole(chunks: Iterable[AIMessage]) -> BaseMessage:
    """The message that these pieces add up to."""
    found = [chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)]
    assert len(found) > 1
    return sum(found[1:], found[0])


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("way", WAYS)
def test_the_model_is_told_everything_once_and_in_order(
    connect: Connect, upstream: Upstream, way: str, streamed: bool
) -> None:
    messages = talk(connect(**WAYS[way]), *QUESTIONS, streamed=streamed)
    assert [
        message.text for message in messages if message.text and isinstance(message, AIMessage)
    ] == ANSWERS
    assert told(upstream.last) == EVERYTHING


def test_what_went_before_can_be_gone_on_from_twice(connect: Connect, upstream: Upstream) -> None:
    model = connect(**WAYS["previous_response_id"])
    first = [*(asked := [HumanMessage("Hello.")]), model.invoke(asked)]
    for question in ["One.", "Two."]:
        assert model.invoke([*first, HumanMessage(question)]).text == f"Heard: {question}"
        assert told(upstream.last) == ["user: Hello.", "assistant: Heard: Hello.", f"user: {question}"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_conversation_needs_only_what_is_new(
    connect: Connect, upstream: Upstream, alice: AbstractBaseUser, streamed: bool
) -> None:
    session = turns.store_session(turns.new_session(alice, "kim"))[0]
    named = {"conversation": f"conv_{session.pk.hex}"}
    model = connect(use_responses_api=True, model_kwargs=named)
    for question in ["Hello.", "Thanks."]:
        answer = whole(model.stream(question)) if streamed else model.invoke(question)
        assert answer.text == f"Heard: {question}"
    assert told(upstream.last) == ["user: Hello.", "assistant: Heard: Hello.", "user: Thanks."]
    assert said(session) == ["u:Hello.", "a:Heard: Hello.", "u:Thanks.", "a:Heard: Thanks."]


def test_an_answer_says_what_it_cost_and_who_gave_it(connect: Connect) -> None:
    reply = connect(**WAYS["previous_response_id"]).invoke("Hello there.")
    assert isinstance(reply, AIMessage)
    assert reply.usage_metadata is not None
    spent = reply.usage_metadata["input_tokens"], reply.usage_metadata["output_tokens"]
    assert spent == (2, 3)
    assert reply.response_metadata["model_name"] == "weather"
    assert str(reply.response_metadata["id"]).startswith("resp_")


def test_an_answer_comes_in_the_form_that_was_asked_for(connect: Connect, upstream: Upstream) -> None:
    class Forecast(BaseModel):
        """What will be."""

        city: str

    model = connect(**WAYS["previous_response_id"]).with_structured_output(Forecast, include_raw=True)
    model.invoke("Rome, please, without a tool.")
    assert upstream.last["response_format"]["json_schema"]["name"] == "Forecast"


def test_a_refusal_is_told_as_langchain_knows_it(connect: Connect) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        connect(use_responses_api=True).invoke("Hello.", previous_response_id="resp_0")
    assert caught.value.code == "previous_response_not_found"
