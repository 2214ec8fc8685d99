"""Going on under /v1/responses: from a response, in a conversation, and from nothing that was not stored."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import openai
import pytest
from django.utils import timezone
from openai import OpenAI

from convo import search
from convo.models import IdempotencyRecord, Message, Session, Turn, TurnRequest
from convo.verify.check import check
from tests.faults import wait_until
from tests.responses import (
    NOTHING,
    ask,
    client,
    events,
    ids,
    inputs,
    items_of,
    message,
    named,
    output,
    prompt,
    streaming,
    texts,
)
from tests.servers import Server, client_of
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

SAID = "assistant: word1 word2 "


def no(call: Callable[[], Any]) -> tuple[int, str | None, str | None]:
    """How this is refused: status, code and param."""
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    return caught.value.status_code, caught.value.code, caught.value.param


def all_is_well() -> None:
    """`manage.py verify` finds nothing wrong, anywhere."""
    for session in Session.objects.all():
        checked = check(session.pk)
        assert checked
        assert not checked.findings


# Chains.


def test_a_chain_holds_all_that_was_said_in_it_once(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "one")
    second = ask(alices, "two", previous_response_id=first.id)
    third = ask(alices, [message("three"), message("four")], previous_response_id=second.id)
    assert prompt(upstream) == ["user: one", SAID, "user: two", SAID, "user: three", "user: four"]
    assert (third.previous_response_id, third.conversation) == (second.id, None)
    assert texts(inputs(alices, third.id)) == ["three", "four"]
    # Only what is new is stored, and the chain is one.
    assert Session.objects.get().kind == Session.Kind.CHAIN
    assert Message.objects.count() == 7
    all_is_well()


def test_a_chain_goes_on_from_any_of_its_responses(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "one")
    second = ask(alices, "two", previous_response_id=first.id)
    branch = ask(alices, "other", previous_response_id=first.id)
    assert prompt(upstream) == ["user: one", SAID, "user: other"]
    ask(alices, "three", previous_response_id=second.id)
    assert prompt(upstream) == ["user: one", SAID, "user: two", SAID, "user: three"]
    ask(alices, "more", previous_response_id=branch.id)
    assert prompt(upstream) == ["user: one", SAID, "user: other", SAID, "user: more"]
    assert texts(inputs(alices, branch.id)) == ["other"]
    assert alices.responses.retrieve(second.id).output_text == "word1 word2 "
    all_is_well()


def test_many_may_go_on_from_one_response_at_once(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "one")

    def go_on(number: int) -> Any:
        return ask(alices, f"branch {number}", model="slow-20", previous_response_id=first.id)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(go_on, range(4)))
    assert [response.status for response in made] == ["completed"] * 4
    heard = sorted(row["messages"][-1]["content"] for row in upstream.heard[1:])
    assert heard == [f"branch {number}" for number in range(4)]
    assert all(len(row["messages"]) == 3 for row in upstream.heard[1:])
    assert [texts(inputs(alices, response.id)) for response in made] == [[f"branch {n}"] for n in range(4)]
    all_is_well()


def test_one_may_go_on_from_a_response_while_another_does(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "one")
    with streaming(alices, "two", previous_response_id=first.id) as held:
        next(iter(held))
        assert ask(alices, "other", previous_response_id=first.id).status == "completed"
        assert prompt(upstream) == ["user: one", SAID, "user: other"]
        upstream.release()
        assert list(held)[-1].type == "response.completed"


def test_a_branch_knows_its_items_by_the_same_ids(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "one")
    ask(alices, "two", previous_response_id=first.id)
    branch = ask(alices, "other", previous_response_id=first.id)
    said = first.output[0].id
    assert said
    ask(alices, [named(said), message("again")])
    assert prompt(upstream) == [SAID, "user: again"]
    assert no(lambda: ask(alices, [named(said)], previous_response_id=branch.id)) == (400, None, "input")


def test_calls_are_answered_in_a_branch_too(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "the weather?", model="tool-call")
    outputs = [output("call_paris", "cold"), output("call_rome", "hot")]
    for _ in range(2):
        made = ask(alices, outputs, previous_response_id=first.id)
        assert made.status == "completed"
        assert [row["role"] for row in upstream.last["messages"]] == ["user", "assistant", "tool", "tool"]
    again = ask(alices, "and now?", model="tool-call", previous_response_id=made.id)
    ask(alices, outputs, previous_response_id=again.id)
    roles = ["user", "assistant", "tool", "tool", "assistant", "user", "assistant", "tool", "tool"]
    assert [row["role"] for row in upstream.last["messages"]] == roles


@pytest.mark.parametrize("scenario", ["silent-end", "length", "refusal"])
def test_a_chain_goes_on_from_a_response_that_was_cut(
    alices: OpenAI, upstream: Upstream, scenario: str
) -> None:
    first = ask(alices, "one", model=scenario)
    ask(alices, "two", previous_response_id=first.id)
    words = "I can't help with that." if scenario == "refusal" else "one two "
    assert prompt(upstream) == ["user: one", f"assistant: {words}", "user: two"]


def test_a_chain_goes_on_from_a_response_of_which_nothing_came(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "one")
    with pytest.raises(openai.InternalServerError):
        ask(alices, "two", model="500", previous_response_id=first.id)
    failed = Turn.objects.get(status=Turn.Status.FAILED)
    assert alices.responses.retrieve(f"resp_{failed.key.hex}").status == "failed"
    ask(alices, "three", previous_response_id=first.id)
    assert prompt(upstream) == ["user: one", SAID, "user: three"]


@pytest.mark.parametrize("id", [NOTHING, "resp_x", "conv_" + "0" * 32, "nonsense"])
def test_an_unknown_response_is_not_gone_on_from(alices: OpenAI, upstream: Upstream, id: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(alices, "hi", previous_response_id=id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
    assert caught.value.message.endswith(f"Previous response with id '{id}' not found.")
    assert not upstream.heard


def test_a_chain_and_a_conversation_exclude_each_other(alices: OpenAI) -> None:
    first, conversation = ask(alices, "hi"), alices.conversations.create()
    options: Any = {"previous_response_id": first.id, "conversation": conversation.id}
    assert no(lambda: ask(alices, "x", **options))[0] == 400


def test_a_response_that_is_still_written_is_not_gone_on_from(alices: OpenAI, upstream: Upstream) -> None:
    held = ask(alices, "hi", model="hold", background=True)
    refused = no(lambda: ask(alices, "x", previous_response_id=held.id))
    assert refused == (400, "invalid_value", "previous_response_id")
    upstream.release()
    wait_until(lambda: alices.responses.retrieve(held.id).status == "completed")
    assert ask(alices, "x", previous_response_id=held.id).status == "completed"


def test_chains_are_neither_listed_nor_found(alices: OpenAI, raw: httpx2.Client) -> None:
    ask(alices, "the marmot sleeps")
    conversation = alices.conversations.create(items=[message("the marmot wakes")])
    listed = raw.get("/v1/conversations").json()["data"]
    assert [row["id"] for row in listed] == [conversation.id]
    assert len(raw.get("/api/v1/sessions/").json()["results"]) == 1
    search.index_turns()
    found = raw.get("/api/v1/search/", params={"q": "marmot"}).json()["results"]
    assert [row["text"] for row in found] == ["the marmot wakes"]


# Conversations.


def test_a_conversation_comes_before_the_input_and_then_holds_it(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create(items=[message("I am Ada"), message("Be brief", "developer")])
    made = ask(alices, [message("who am I?")], conversation=conversation.id)
    assert prompt(upstream) == ["user: I am Ada", "system: Be brief", "user: who am I?"]
    assert made.conversation
    assert (made.conversation.id, made.previous_response_id) == (conversation.id, None)
    held = items_of(alices, conversation.id)
    assert texts(held) == ["I am Ada", "Be brief", "who am I?", "word1 word2 "]
    assert ids(held)[2:] == [*ids(inputs(alices, made.id)), *ids(made.output)]
    found = events(alices, "and now?", conversation={"id": conversation.id})
    assert prompt(upstream)[2:] == ["user: who am I?", SAID, "user: and now?"]
    assert found[0].response.conversation.id == conversation.id
    assert ids(items_of(alices, conversation.id))[-1] == found[-1].response.output[0].id
    alices.conversations.items.create(conversation.id, items=[message("by hand")])
    ask(alices, "last", conversation=conversation.id)
    assert prompt(upstream)[-2:] == ["user: by hand", "user: last"]
    all_is_well()


def test_a_conversation_of_sixty_items_reaches_the_model_whole(alices: OpenAI, upstream: Upstream) -> None:
    roles = ["user", "user", "assistant", "system", "assistant", "user"]
    items = [message(f"line {number}", roles[number % 6]) for number in range(60)]
    conversation = alices.conversations.create(items=items[:20])
    for start in (20, 40):
        alices.conversations.items.create(conversation.id, items=items[start : start + 20])
    ask(alices, "now?", conversation=conversation.id)
    heard = [*(f"{item['role']}: {item['content']}" for item in items), "user: now?"]
    assert prompt(upstream) == heard
    branch = ask(alices, "one", conversation=conversation.id)
    ask(alices, "and?", previous_response_id=branch.id)
    assert prompt(upstream) == [*heard, SAID, "user: one", SAID, "user: and?"]


def test_calls_of_a_conversation_are_answered_in_it(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create().id
    ask(alices, "the weather?", model="tool-call", conversation=conversation)
    outputs = [output("call_paris", "cold"), output("call_rome", "hot")]
    assert no(lambda: ask(alices, "well?", conversation=conversation)) == (400, None, "input")
    assert no(lambda: ask(alices, outputs[:1], conversation=conversation)) == (400, None, "input")
    ask(alices, outputs, conversation=conversation)
    assert [row["role"] for row in upstream.last["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [item.type for item in items_of(alices, conversation)] == [
        "message",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
        "message",
    ]


@pytest.mark.parametrize("told", ["cold", "colder"])
def test_outputs_on_which_the_model_failed_are_told_again(
    alices: OpenAI, upstream: Upstream, told: str
) -> None:
    conversation = alices.conversations.create().id
    ask(alices, "the weather?", model="tool-call", conversation=conversation)
    outputs = [output("call_paris", "cold"), output("call_rome", "hot")]
    for _ in range(2):
        with pytest.raises(openai.RateLimitError):
            ask(alices, outputs, model="429-1", conversation=conversation)
    outputs[0]["output"] = told
    ask(alices, outputs, conversation=conversation)
    assert [row["role"] for row in upstream.last["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [row["content"] for row in upstream.last["messages"][2:]] == [told, "hot"]
    assert no(lambda: ask(alices, outputs, conversation=conversation)) == (400, None, "input")
    ask(alices, "thanks", conversation=conversation)
    assert [row["content"] for row in upstream.last["messages"][2:]] == [
        told,
        "hot",
        "word1 word2 ",
        "thanks",
    ]


def test_a_branch_off_a_conversation_is_not_added_to_it(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create().id
    first = ask(alices, "one", conversation=conversation)
    second = ask(alices, "two", conversation=conversation)
    branch = ask(alices, "other", previous_response_id=first.id)
    assert prompt(upstream) == ["user: one", SAID, "user: other"]
    newest = ask(alices, "newest", previous_response_id=second.id)
    assert prompt(upstream) == ["user: one", SAID, "user: two", SAID, "user: newest"]
    assert (branch.conversation, newest.conversation) == (None, None)
    assert texts(items_of(alices, conversation)) == ["one", "word1 word2 ", "two", "word1 word2 "]
    # What is deleted of the conversation later stays in the branch that holds it.
    alices.conversations.delete(conversation)
    ask(alices, "more", previous_response_id=branch.id)
    assert prompt(upstream) == ["user: one", SAID, "user: other", SAID, "user: more"]
    assert alices.responses.retrieve(branch.id).status == "completed"


@pytest.mark.parametrize("id", ["conv_" + "0" * 32, "conv_x", NOTHING])
def test_an_unknown_conversation_is_not_found(alices: OpenAI, id: str) -> None:
    assert no(lambda: ask(alices, "x", conversation=id))[0] == 404


def test_a_deleted_conversation_is_not_found(alices: OpenAI) -> None:
    conversation = alices.conversations.create().id
    alices.conversations.delete(conversation)
    assert no(lambda: ask(alices, "x", conversation=conversation))[0] == 404


def test_an_item_of_the_conversation_is_not_asked_twice(alices: OpenAI) -> None:
    conversation = alices.conversations.create(items=[message("one")]).id
    [item] = items_of(alices, conversation)
    for told in (named(item.id), {"id": item.id, **message("one")}):
        asked = [told]
        assert no(lambda: ask(alices, asked, conversation=conversation)) == (400, None, "input")  # noqa: B023
    assert len(items_of(alices, conversation)) == 1


def test_a_conversation_takes_one_turn_at_a_time(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create().id
    with streaming(alices, "one", conversation=conversation) as held:
        next(iter(held))
        assert no(lambda: ask(alices, "two", conversation=conversation)) == (
            400,
            "conversation_locked",
            "conversation",
        )
        locked = no(lambda: alices.conversations.items.create(conversation, items=[message("x")]))
        assert locked[:2] == (400, "conversation_locked")
        upstream.release()
        assert list(held)[-1].type == "response.completed"
    assert ask(alices, "two", conversation=conversation).status == "completed"
    assert texts(items_of(alices, conversation))[::2] == ["one", "two"]


def test_of_many_turns_at_once_one_is_answered(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create().id

    def turn(number: int) -> str:
        try:
            return ask(alices, f"q{number}", model="slow-200", conversation=conversation).status or ""
        except openai.BadRequestError as error:
            return str(error.code)

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(turn, range(4)))
    assert sorted(ended) == ["completed", *["conversation_locked"] * 3]
    assert len(items_of(alices, conversation)) == 2
    all_is_well()


def test_a_turn_may_wait_for_the_one_before(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create().id
    queue: Any = {"conversation": conversation, "extra_body": {"on_busy": "queue"}}
    with (
        ThreadPoolExecutor(2) as pool,
        streaming(alices, "one", conversation=conversation) as held,
    ):
        next(iter(held))
        second = pool.submit(lambda: ask(alices, "two", **queue, instructions="Be brief."))
        wait_until(lambda: Turn.objects.filter(status="queued").exists())
        third = pool.submit(lambda: events(alices, "three", **queue))
        wait_until(lambda: Turn.objects.filter(status="queued").count() == 2)
        upstream.release()
        assert list(held)[-1].type == "response.completed"
        made, found = second.result(), third.result()
    assert (made.status, found[-1].type) == ("completed", "response.completed")
    assert [event.sequence_number for event in found] == list(range(len(found)))
    assert texts(items_of(alices, conversation))[::2] == ["one", "two", "three"]
    asked = {row["messages"][-1]["content"]: row for row in upstream.heard}
    assert asked["two"]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert len(asked["three"]["messages"]) == 5
    assert texts(inputs(alices, made.id)) == ["two"]


def test_what_cannot_be_asked_does_not_wait(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create(items=[message("one")]).id
    [item] = items_of(alices, conversation)
    with streaming(alices, "two", conversation=conversation) as held:
        next(iter(held))
        queue: Any = {"conversation": conversation, "extra_body": {"on_busy": "queue"}}
        assert no(lambda: ask(alices, [named(item.id)], **queue)) == (400, None, "input")
        upstream.release()
        assert list(held)[-1].type == "response.completed"


def test_a_turn_may_interrupt_the_one_before(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create().id
    with streaming(alices, "one", conversation=conversation) as held:
        arriving = iter(held)
        first = next(arriving).response
        wait_until(lambda: any(event.type == "response.output_text.delta" for event in arriving))
        made = ask(alices, "two", conversation=conversation, extra_body={"on_busy": "interrupt"})
        assert list(arriving)[-1].type == "response.failed"
    assert made.status == "completed"
    assert alices.responses.retrieve(first.id).status == "cancelled"
    assert texts(items_of(alices, conversation))[::2] == ["one", "two"]
    assert prompt(upstream)[0] == "user: one"


# What is not stored, and what is deleted.


def test_without_store_a_response_leaves_its_usage_alone(alices: OpenAI, raw: httpx2.Client) -> None:
    whole = ask(alices, "my secret", store=False, instructions="hush", metadata={"who": "ada"})
    last = events(alices, "my secret", store=False)[-1].response
    for made in (whole, last):
        assert (made.status, made.store, made.output_text) == ("completed", False, "word1 word2 ")
        assert made.usage.output_tokens == 2
        assert no(lambda: alices.responses.retrieve(made.id)) == (404, None, None)  # noqa: B023
        assert raw.get(f"/v1/responses/{made.id}/input_items").status_code == 404
        assert raw.get(f"/v1/responses/{made.id}/context").status_code == 404
        assert raw.get(f"/v1/responses/{made.id}?stream=true").status_code == 404
        assert no(lambda: ask(alices, "x", previous_response_id=made.id))[1] == "previous_response_not_found"  # noqa: B023
        assert no(lambda: ask(alices, [named(made.output[0].id)]))[0] == 404  # noqa: B023
    assert not Message.objects.exists()
    assert not TurnRequest.objects.exists()
    for turn in Turn.objects.all():
        assert (turn.output_tokens, turn.draft, turn.input, turn.gist) == (2, "", [], "")
        assert turn.chunks in ([], [{"index": 0, "kind": "message", "chunk_lengths": [6, 6]}])
    assert "secret" not in str(list(Turn.objects.values()) + list(Session.objects.values()))


def test_without_store_the_answers_of_tools_come_in_the_input(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "weather?", model="tool-call", store=False)
    calls = [item.model_dump(exclude_unset=True) for item in first.output]
    outputs = [output("call_paris", "cold"), output("call_rome", "hot")]
    made = ask(alices, [message("weather?"), *calls, *outputs], store=False)
    assert made.status == "completed"
    assert [row["role"] for row in upstream.last["messages"]] == ["user", "assistant", "tool", "tool"]


def test_without_store_a_conversation_keeps_its_items(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create().id
    made = ask(alices, "one", conversation=conversation, store=False)
    assert texts(items_of(alices, conversation)) == ["one", "word1 word2 "]
    assert ids(items_of(alices, conversation))[1:] == ids(made.output)
    assert no(lambda: alices.responses.retrieve(made.id))[0] == 404
    assert no(lambda: ask(alices, "x", previous_response_id=made.id))[1] == "previous_response_not_found"
    ask(alices, "two", conversation=conversation)
    assert prompt(upstream) == ["user: one", SAID, "user: two"]


def test_without_store_one_can_go_on_from_what_is_stored(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "one")
    chain = Session.objects.get()
    made = ask(alices, "my secret", previous_response_id=first.id, store=False)
    assert prompt(upstream) == ["user: one", SAID, "user: my secret"]
    assert no(lambda: alices.responses.retrieve(made.id))[0] == 404
    # The chain itself has not moved, and the copy in which it was asked is not kept for long.
    assert Session.objects.get(pk=chain.pk).message_count == 2
    copy = Session.objects.exclude(pk=chain.pk).get()
    assert copy.expires_at
    assert copy.expires_at < timezone.now() + timedelta(hours=2)
    ask(alices, "two", previous_response_id=first.id)
    assert prompt(upstream) == ["user: one", SAID, "user: two"]


def test_a_deleted_response_is_not_gone_on_from_and_its_words_are_gone(alices: OpenAI) -> None:
    first = ask(alices, "my first secret", instructions="hush", metadata={"a": "secret"})
    second = ask(alices, "my second secret", previous_response_id=first.id)
    [asked], said = inputs(alices, second.id), second.output[0].id
    alices.responses.delete(second.id)
    assert no(lambda: ask(alices, "x", previous_response_id=second.id))[1] == "previous_response_not_found"
    for item in (asked.id, said):
        assert no(lambda: ask(alices, [named(item)]))[0] == 404  # noqa: B023
    remaining_messages = Message.objects.exclude(content="").order_by("pk")
    assert [row.content for row in remaining_messages] == ["my first secret", "word1 word2 "]
    alices.responses.delete(first.id)
    kept = [*Message.objects.values(), *Turn.objects.values(), *TurnRequest.objects.values()]
    assert "secret" not in str(kept)
    all_is_well()


def test_what_was_deleted_of_a_chain_is_not_told_any_more(alices: OpenAI, upstream: Upstream) -> None:
    first = ask(alices, "one")
    second = ask(alices, "two", previous_response_id=first.id)
    third = ask(alices, "three", previous_response_id=second.id)
    alices.responses.delete(second.id)
    ask(alices, "four", previous_response_id=third.id)
    assert prompt(upstream) == ["user: one", SAID, "user: three", SAID, "user: four"]


def test_a_deleted_response_leaves_its_conversation_as_it_was(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create().id
    made = ask(alices, "one", conversation=conversation)
    alices.responses.delete(made.id)
    assert no(lambda: alices.responses.retrieve(made.id))[0] == 404
    assert texts(items_of(alices, conversation)) == ["one", "word1 word2 "]
    ask(alices, "two", conversation=conversation)
    assert prompt(upstream) == ["user: one", SAID, "user: two"]


def test_a_response_that_is_written_is_deleted_at_once(alices: OpenAI, upstream: Upstream) -> None:
    held = ask(alices, "my secret", model="hold", background=True)
    wait_until(lambda: upstream.active)
    alices.responses.delete(held.id)
    assert no(lambda: alices.responses.retrieve(held.id))[0] == 404
    wait_until(lambda: not upstream.active)
    assert not Message.objects.exclude(content="").exists()


def test_what_is_forgotten_elsewhere_is_gone_here(
    alices: OpenAI, raw: httpx2.Client, upstream: Upstream
) -> None:
    conversation = alices.conversations.create().id
    first = ask(alices, "the marmot sleeps", conversation=conversation)
    second = ask(alices, "and now?", conversation=conversation)
    session = f"/api/v1/sessions/{Session.objects.get().pk}"
    told = raw.get(f"{session}/history/").json()["results"]
    assert [row["content"] for row in told] == [
        "the marmot sleeps",
        "word1 word2 ",
        "and now?",
        "word1 word2 ",
    ]
    asked = raw.post(f"{session}/query/", json={"message": "by REST", "agent": "words"})
    assert asked.status_code == 200
    assert texts(items_of(alices, conversation))[-2] == "by REST"
    search.index_turns()
    found = raw.get("/api/v1/search/", params={"q": "marmot"}).json()["results"]
    assert found[0]["text"] == "the marmot sleeps"
    assert raw.delete(f"{session}/messages/1/").status_code in {200, 204}
    assert texts(items_of(alices, conversation))[0] == "and now?"
    assert "sleeps" not in raw.get("/api/v1/search/", params={"q": "marmot"}).text
    assert alices.responses.retrieve(first.id).output == []
    assert inputs(alices, first.id) == []
    assert no(lambda: ask(alices, "x", previous_response_id=first.id))[1] == "previous_response_not_found"
    ask(alices, "x", previous_response_id=second.id)
    assert "marmot" not in str(upstream.last)
    assert raw.delete(f"{session}/").status_code == 204
    assert no(lambda: alices.responses.retrieve(second.id))[0] == 404


# Whose it is.


def test_another_tenants_responses_are_unknown(
    server: Server, alices: OpenAI, bob_key: str, upstream: Upstream
) -> None:
    made = ask(alices, "my secret")
    conversation = alices.conversations.create().id
    with client(server, bob_key) as bobs:
        assert no(lambda: bobs.responses.retrieve(made.id))[0] == 404
        assert no(lambda: bobs.responses.retrieve(made.id, stream=True))[0] == 404
        assert no(lambda: bobs.responses.delete(made.id))[0] == 404
        assert no(lambda: bobs.responses.cancel(made.id))[0] == 404
        assert no(lambda: bobs.responses.input_items.list(made.id))[0] == 404
        assert no(lambda: ask(bobs, "x", previous_response_id=made.id))[1] == "previous_response_not_found"
        assert no(lambda: ask(bobs, "x", conversation=conversation))[0] == 404
    with client_of(server, bob_key) as bob:
        assert bob.get(f"/v1/responses/{made.id}/context").status_code == 404
    assert len(upstream.heard) == 1
    assert alices.responses.retrieve(made.id) == made


@pytest.mark.parametrize(
    ("headers", "fields", "person"),
    [
        ({"X-Convo-User": "ada"}, {"metadata": {"user": "b"}, "safety_identifier": "c", "user": "d"}, "ada"),
        ({}, {"metadata": {"user": "ada"}, "safety_identifier": "c", "user": "d"}, "ada"),
        ({}, {"safety_identifier": "ada", "user": "d"}, "ada"),
        ({}, {"user": "ada"}, "ada"),
        ({}, {}, ""),
    ],
)
def test_a_response_is_of_the_end_user_who_is_named_first(
    alices: OpenAI, headers: dict[str, str], fields: dict[str, Any], person: str
) -> None:
    ask(alices, "hi", extra_headers=headers, **fields)
    assert Session.objects.get().person.ref == person


def test_one_end_user_sees_nothing_of_another(alices: OpenAI, upstream: Upstream) -> None:
    hers = ask(alices, "my secret", user="ada")
    talk = alices.conversations.create(extra_headers={"X-Convo-User": "ada"}).id
    said = hers.output[0].id
    for other in ({"user": "ben"}, {"safety_identifier": "ben"}, {"metadata": {"user": "ben"}}):
        options: Any = other
        refused = no(lambda: ask(alices, "x", previous_response_id=hers.id, **options))  # noqa: B023
        assert refused[1] == "previous_response_not_found"
        assert no(lambda: ask(alices, "x", conversation=talk, **options))[0] == 404  # noqa: B023
        assert no(lambda: ask(alices, [named(said)], **options))[0] == 404  # noqa: B023
    bens: Any = {"extra_headers": {"X-Convo-User": "ben"}}
    assert no(lambda: alices.responses.retrieve(hers.id, **bens))[0] == 404
    assert no(lambda: alices.responses.delete(hers.id, **bens))[0] == 404
    assert ask(alices, "x", previous_response_id=hers.id, user="ada").status == "completed"
    assert ask(alices, "x", conversation=talk, user="ada").status == "completed"
    assert ask(alices, "x", previous_response_id=hers.id).status == "completed"
    assert {session.person.ref for session in Session.objects.all()} == {"ada"}


def test_what_nobody_began_goes_on_under_a_name(alices: OpenAI) -> None:
    first, talk = ask(alices, "hi"), alices.conversations.create().id
    for named_so in ({"user": "ada"}, {"safety_identifier": "ada"}):
        options: Any = named_so
        assert ask(alices, "x", previous_response_id=first.id, **options).status == "completed"
        assert ask(alices, "x", conversation=talk, **options).status == "completed"
    for strictly in ({"metadata": {"user": "ada"}}, {"extra_headers": {"X-Convo-User": "ada"}}):
        options = strictly
        refused = no(lambda: ask(alices, "x", previous_response_id=first.id, **options))  # noqa: B023
        assert refused[1] == "previous_response_not_found"
        assert no(lambda: ask(alices, "x", conversation=talk, **options))[0] == 404  # noqa: B023
    assert {session.person.ref for session in Session.objects.all()} == {""}


# Under one key.


def test_a_request_sent_twice_under_a_key_is_one_turn(raw: httpx2.Client, upstream: Upstream) -> None:
    headers = {"Idempotency-Key": "k1"}
    body = {"model": "words-2", "input": "hi"}
    first, again = (raw.post("/v1/responses", json=body, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert len(upstream.heard) == Turn.objects.count() == 1
    other = raw.post("/v1/responses", json={**body, "input": "bye"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")
    raw.delete(f"/v1/responses/{first.json()['id']}")
    late = raw.post("/v1/responses", json=body, headers=headers)
    assert (late.status_code, len(upstream.heard)) == (410, 1)


def test_a_refusal_under_a_key_stays_and_a_failure_is_tried_again(
    raw: httpx2.Client, upstream: Upstream
) -> None:
    headers = {"Idempotency-Key": "k1"}
    bad = {"model": "words-2", "input": "hi", "previous_response_id": NOTHING}
    answers = [raw.post("/v1/responses", json=bad, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()
    headers = {"Idempotency-Key": "k2"}
    failing = {"model": "500", "input": "hi"}
    answers = [raw.post("/v1/responses", json=failing, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [502, 502]
    assert len(upstream.heard) == 2
    assert Message.objects.count() == 1
    assert prompt(upstream) == ["user: hi"]


def test_without_store_a_key_says_that_it_was_answered(raw: httpx2.Client, upstream: Upstream) -> None:
    body, headers = {"model": "words-2", "input": "hi", "store": False}, {"Idempotency-Key": "k1"}
    first, again = (raw.post("/v1/responses", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, len(upstream.heard)) == (200, 410, 1)
    assert not IdempotencyRecord.objects.exclude(body=None).exists()
