"""Which result belongs to which tool call, where a model server names every call alike (Review 6)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from convo import history, verify
from convo.context import choose
from convo.history.tool_pairs import CALL, RESULT, pair
from convo.models import Message, Session
from tests.responses import WEATHER, output
from tests.support.transcripts import agent, call, lines, messages_of, result
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

QUESTION = "Weather in Paris, then Rome, then Oslo?"
CITIES = ["Paris", "Rome", "Oslo"]
MODEL = "weather-same-id"
CHAT_TOOL: Any = {
    "type": "function",
    "function": {name: WEATHER[name] for name in ("name", "description", "parameters")},
}


def pairs_heard(upstream: Upstream) -> list[tuple[str, str]]:
    """The city of each call in the last prompt, with the result that stands behind it."""
    found: list[tuple[str, str]] = []
    for message in upstream.last["messages"]:
        for made in message.get("tool_calls") or ():
            found.append((json.loads(made["function"]["arguments"])["city"], ""))
        if message["role"] == "tool":
            place = next(at for at, (_, told) in enumerate(found) if not told)
            found[place] = (found[place][0], message["content"])
    return found


def broken() -> list[str]:
    return [f"{one.location}: {one.problem}" for checked in verify.check_all() for one in checked.findings]


def the_session() -> Session:
    return Session.objects.get(kind=Session.Kind.CONVERSATION)


SUNNY = [(city, f"sunny in {city}") for city in CITIES]

# The rule itself.


@dataclass(frozen=True)
class Item:
    type: str
    call_id: str


def story(text: str) -> list[Item]:
    """A transcript in short: `c0` is a call of that id, `r0` a result, anything else a message."""
    kinds = {"c": CALL, "r": RESULT}
    return [
        Item(kinds[word[0]], word[1:]) if word[0] in kinds else Item("message", "") for word in text.split()
    ]


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "results", "unpaired"),
    [
        ("c0 r0 c0 r0 c0 r0", {0: 1, 2: 3, 4: 5}, set()),
        ("c1 c2 r1 r2", {0: 2, 1: 3}, set()),
        ("c1 c2 r2 r1", {0: 3, 1: 2}, set()),
        # Two calls of one reply: their results come in their order.
        ("c0 c0 r0 r0", {0: 2, 1: 3}, set()),
        # One was left alone, and another made.
        ("c0 message c0 r0", {2: 3}, {0}),
        ("c0 message c0 r0 message r0", {2: 3, 0: 5}, set()),
        # Sent again, the last one counts.
        ("c0 r0 r0", {0: 2}, set()),
        ("c0 r0 c0 r0 r0", {0: 1, 2: 4}, set()),
        ("r0 c0", {}, {0, 1}),
        ("c0 r1", {}, {0, 1}),
    ],
)
def test_a_result_belongs_to_the_newest_call_of_its_id_without_one(
    text: str, results: dict[int, int], unpaired: set[int]
) -> None:
    found = pair(enumerate(story(text)))
    assert found.results == results
    assert found.orphans == unpaired


@pytest.mark.once
def test_other_tools_pair_by_kind_and_id() -> None:
    items = [
        Item("computer_call", "1"),
        Item(CALL, "1"),
        Item("computer_call_output", "1"),
        Item(RESULT, "1"),
    ]
    assert pair(enumerate(items)).results == {0: 2, 1: 3}


# Three rounds on every surface, with the real client.


def in_a_chat_session(alices: OpenAI, raw: httpx2.Client, question: str) -> str:
    completions = alices.chat.completions.with_raw_response
    session = "new"
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(5):
        headers = {"X-Convo-Session": session}
        answer = completions.create(model=MODEL, messages=messages, tools=[CHAT_TOOL], extra_headers=headers)
        session, told = answer.headers["x-convo-session"], answer.parse().choices[0].message
        if not told.tool_calls:
            return str(told.content)
        # As applications do: all that was said, every time.
        messages.append(told.to_dict())
        for made in told.tool_calls:
            city = json.loads(made.function.arguments)["city"]  # type: ignore[union-attr]
            tool = {"role": "tool", "tool_call_id": made.id, "content": f"sunny in {city}"}
            messages.append(tool)
    raise AssertionError("The loop has no end.")


def _rounds(ask: Callable[[Any], Any], question: str) -> str:
    input: Any = question
    for _ in range(5):
        response = ask(input)
        made = [item for item in response.output if item.type == CALL]
        if not made:
            return str(response.output_text)
        cities = [json.loads(item.arguments)["city"] for item in made]
        input = [output(item.call_id, f"sunny in {city}") for item, city in zip(made, cities, strict=True)]
    raise AssertionError("The loop has no end.")


def in_a_conversation(alices: OpenAI, raw: httpx2.Client, question: str) -> str:
    talk = alices.conversations.create().id
    return _rounds(
        lambda input: alices.responses.create(
            model=MODEL,
            input=input,
            conversation=talk,
            tools=[WEATHER],  # type: ignore[list-item]
        ),
        question,
    )


def in_a_chain(alices: OpenAI, raw: httpx2.Client, question: str) -> str:
    last: list[str] = []

    def ask(input: Any) -> Any:
        named: Any = {"previous_response_id": last[-1]} if last else {}
        made = alices.responses.create(model=MODEL, input=input, tools=[WEATHER], **named)  # type: ignore[list-item]
        last.append(made.id)
        return made

    return _rounds(ask, question)


def over_rest(alices: OpenAI, raw: httpx2.Client, question: str) -> str:
    """The rounds were made elsewhere and are appended one by one; then the model is asked."""
    path = f"/api/v1/sessions/{raw.post('/api/v1/sessions/', json={}).json()['id']}/"

    def append(*messages: Any) -> None:
        answer = raw.post(f"{path}messages/", json={"messages": messages})
        assert answer.status_code == 201, answer.text

    append({"role": "user", "content": "Tell me the weather."})
    for group in [part.replace("and", ",").split(",") for part in question.split("then")]:
        cities = [city for part in group for city in CITIES if city in part]
        for city in cities:
            arguments = json.dumps({"city": city})
            item = {"type": CALL, "call_id": "call_0", "name": "weather", "arguments": arguments}
            append({"role": "assistant", "item": item})
        for city in cities:
            append({"role": "tool", "item": output("call_0", f"sunny in {city}")})
    answer = raw.post(f"{path}query/", json={"message": "Well?", "agent": "passthrough"})
    assert answer.status_code == 200, answer.text
    return "Heard: sunny in Oslo"


SURFACES = [in_a_chat_session, in_a_conversation, in_a_chain, over_rest]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    "question", [QUESTION, "Weather in Paris and Rome, then Oslo?"], ids=["one by one", "two at once"]
)
def test_a_loop_of_calls_with_one_id_keeps_each_result_with_its_call(
    surface: Callable[[OpenAI, httpx2.Client, str], str],
    question: str,
    alices: OpenAI,
    raw: httpx2.Client,
    upstream: Upstream,
) -> None:
    assert surface(alices, raw, question) == "Heard: sunny in Oslo"
    assert pairs_heard(upstream) == SUNNY
    assert broken() == []


def test_a_second_result_is_refused_on_every_surface(alices: OpenAI, raw: httpx2.Client) -> None:
    in_a_chat_session(alices, raw, QUESTION)
    session, before = the_session(), Message.objects.count()
    talk = f"conv_{session.pk.hex}"

    def chat(call_id: str) -> Any:
        told: Any = {"role": "tool", "tool_call_id": call_id, "content": "rain"}
        headers = {"X-Convo-Session": talk}
        return alices.chat.completions.create(model=MODEL, messages=[told], extra_headers=headers)

    def respond(call_id: str) -> Any:
        return alices.responses.create(model=MODEL, input=[output(call_id, "rain")], conversation=talk)

    def add(call_id: str) -> Any:
        return alices.conversations.items.create(talk, items=[output(call_id, "rain")])

    for call_id, why in (
        ("call_0", "The tool call call_0 already has an output."),
        ("call_9", "No tool call found for function call output with call_id call_9."),
    ):
        for send in (chat, respond, add):
            with pytest.raises(openai.BadRequestError) as refused:
                send(call_id)
            assert refused.value.body["message"] == why  # type: ignore[index]
        body = {"messages": [{"role": "tool", "item": output(call_id, "rain")}]}
        answer = raw.post(f"/api/v1/sessions/{session.pk}/messages/", json=body)
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, why)
    assert Message.objects.count() == before


def test_a_request_that_lacks_the_last_call_adds_nothing(alices: OpenAI, upstream: Upstream) -> None:
    """The answer with the second call got lost, and the client sends the first one's result again."""
    headers = {"X-Convo-Session": "new"}
    completions = alices.chat.completions.with_raw_response
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    for _ in range(2):
        answer = completions.create(model=MODEL, messages=messages, tools=[CHAT_TOOL], extra_headers=headers)
        headers = {"X-Convo-Session": answer.headers["x-convo-session"]}
        first = answer.parse().choices[0].message
        if len(messages) == 1:
            result = {"role": "tool", "tool_call_id": "call_0", "content": "sunny in Paris"}
            messages += [first.to_dict(), result]
    before = history.messages_upto(the_session(), the_session().last_position)
    again = completions.create(model=MODEL, messages=messages, tools=[CHAT_TOOL], extra_headers=headers)
    assert json.loads(again.parse().choices[0].message.tool_calls[0].function.arguments) == {"city": "Rome"}  # type: ignore[index,union-attr]
    shown = history.messages_upto(the_session(), the_session().last_position)
    assert [row.type for row in shown] == [row.type for row in before] == ["message", CALL, RESULT, CALL]


# What is made of the pairs.


def test_a_call_is_deleted_with_its_own_result_alone(alices: OpenAI, raw: httpx2.Client) -> None:
    in_a_conversation(alices, raw, QUESTION)
    session = the_session()
    calls = Message.objects.transcript(session).filter(type=CALL)
    talk, second = f"conv_{session.pk.hex}", calls[1]
    alices.conversations.items.delete(second.item_id, conversation_id=talk)
    left = [(row.type, row.call_id) for row in Message.objects.transcript(session)]
    assert left == [("message", ""), *[(CALL, "call_0"), (RESULT, "call_0")] * 2, ("message", "")]
    assert [json.loads(row.item["arguments"])["city"] for row in calls.all()] == ["Paris", "Oslo"]  # type: ignore[index]
    assert [row.content for row in Message.objects.transcript(session).filter(type=RESULT)] == [
        "sunny in Paris",
        "sunny in Oslo",
    ]
    # And a result takes its call along where it is deleted by its position.
    history.delete_message(session.pk, Message.objects.transcript(session).filter(type=RESULT)[1].position)
    assert [row.content for row in Message.objects.transcript(session).filter(type=RESULT)] == [
        "sunny in Paris"
    ]
    assert broken() == []


def test_a_session_that_begins_in_the_middle_of_a_loop_goes_on(alices: OpenAI, raw: httpx2.Client) -> None:
    in_a_conversation(alices, raw, QUESTION)
    session = the_session()
    second = Message.objects.transcript(session).filter(type=CALL)[1]
    forked = history.fork(session, second.position)
    for status in (201, 400):
        body = {"messages": [{"role": "tool", "item": output("call_0", "rain in Rome")}]}
        answer = raw.post(f"/api/v1/sessions/{forked.pk}/messages/", json=body)
        assert answer.status_code == status, answer.text
    assert broken() == []


@pytest.mark.once
def test_the_calls_that_a_question_answers_come_with_it_whatever_they_cost() -> None:
    earlier = lines("u:" + "look " * 60, call("c0"), result("c0", "one"), call("c0", "listen"))
    question = lines(result("c0", "two"), start=9)
    prompt = choose(agent(context_tokens=500, window_pairs=1), "some-local-model", earlier, question)
    assert [row["content"] for row in messages_of(prompt) if row["role"] == "tool"] == ["one", "two"]


@pytest.mark.once
def test_an_abandoned_call_is_not_given_a_later_ones_result() -> None:
    earlier = lines("u:q1", call("c0", "look"), "u:q2", call("c0", "listen"), result("c0", "heard"), "a:done")
    prompt = choose(agent(), "some-local-model", earlier, lines("u:q3", start=20))
    made = [one["function"]["name"] for row in messages_of(prompt) for one in row.get("tool_calls", ())]
    assert (made, [row["content"] for row in messages_of(prompt) if row["role"] == "tool"]) == (
        ["listen"],
        ["heard"],
    )
