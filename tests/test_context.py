"""What the model sees: the window, the budget, and the account of both, also at their edges."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convo import tokens
from convo.context import Prompt, choose
from convo.errors import MessageTooLong
from convo.history import NewMessage
from tests.support.transcripts import agent, call, lines, messages_of, result

MODEL = "some-local-model"


def said(prompt: Prompt) -> list[str]:
    return [f"{message['role'][0]}:{message.get('content')}" for message in messages_of(prompt)]


def total(prompt: Prompt) -> int:
    costs = [int(part["tokens"]) for part in prompt.manifest["parts"]]
    return sum(costs) + int(prompt.manifest["reply_overhead"])


QUESTION = lines("u:which of these?", start=99)


@pytest.mark.parametrize(
    ("pairs", "seen"),
    [
        (0, []),
        (1, ["u:q3", "a:r3"]),
        (2, ["u:q2", "a:r2", "u:q3", "a:r3"]),
        (3, ["u:q1", "a:r1", "u:q2", "a:r2", "u:q3", "a:r3"]),
        (10, ["u:q1", "a:r1", "u:q2", "a:r2", "u:q3", "a:r3"]),
    ],
)
def test_the_model_sees_the_last_pairs_and_then_the_question(pairs: int, seen: list[str]) -> None:
    earlier = lines("u:q1", "a:r1", "u:q2", "a:r2", "u:q3", "a:r3")
    prompt = choose(agent(window_pairs=pairs), MODEL, earlier, QUESTION)
    assert said(prompt) == [*seen, "u:which of these?"]


def test_the_instructions_come_first_in_one_system_message() -> None:
    prompt = choose(agent(instructions="Be kind."), MODEL, lines("u:hi", "a:hello"), QUESTION)
    assert said(prompt) == ["s:Be kind.", "u:hi", "a:hello", "u:which of these?"]


def test_the_budget_cuts_whole_pairs_from_the_oldest_and_says_so() -> None:
    earlier = lines("u:" + "old " * 50, "a:" + "old " * 50, "u:new", "a:newer")
    whole = choose(agent(), MODEL, earlier, QUESTION)
    assert len(whole.messages) == 5
    tight = choose(agent(), MODEL, earlier, QUESTION, budget=total(whole) - 1)
    assert said(tight) == ["u:new", "a:newer", "u:which of these?"]
    (left,) = tight.manifest["left_out"]
    assert left["why"] == "no room in the budget"
    assert (left["from"], left["to"], left["messages"]) == (1, 2, 2)


def test_a_budget_that_fits_to_the_token_cuts_nothing() -> None:
    earlier = lines("u:one", "a:two", "u:three", "a:four")
    whole = choose(agent(), MODEL, earlier, QUESTION)
    assert choose(agent(), MODEL, earlier, QUESTION, budget=total(whole)).messages == whole.messages


def test_the_question_survives_when_nothing_else_fits() -> None:
    alone = choose(agent(), MODEL, [], QUESTION)
    prompt = choose(agent(), MODEL, lines("u:hi", "a:hello"), QUESTION, budget=total(alone))
    assert said(prompt) == ["u:which of these?"]


def test_a_question_that_cannot_fit_is_an_error_that_tells_the_figures() -> None:
    alone = choose(agent(), MODEL, [], QUESTION)
    with pytest.raises(MessageTooLong) as error:
        choose(agent(), MODEL, [], QUESTION, budget=total(alone) - 1)
    assert error.value.code == "message_too_long"
    assert str(total(alone) - 1) in error.value.message


@pytest.mark.slow
def test_one_huge_message_is_refused_without_being_counted() -> None:
    huge = lines("u:" + "x" * 2_000_000)
    with pytest.raises(MessageTooLong, match="2000000 characters"):
        choose(agent(), MODEL, [], huge)


def test_a_budget_smaller_than_the_instructions_is_an_error_not_an_empty_prompt() -> None:
    with pytest.raises(MessageTooLong):
        choose(agent(instructions="Be kind. " * 30), MODEL, [], QUESTION, budget=20)


def test_one_huge_old_message_leaves_the_newer_ones_in() -> None:
    earlier = lines("u:q1", "a:" + "long " * 3000, "u:q2", "a:r2")
    prompt = choose(agent(context_tokens=300), MODEL, earlier, QUESTION)
    assert said(prompt) == ["u:q2", "a:r2", "u:which of these?"]


def test_nothing_in_the_middle_is_missing_once_something_did_not_fit() -> None:
    earlier = lines("u:q1", "a:r1", "u:q2", "a:" + "long " * 3000, "u:q3", "a:r3")
    prompt = choose(agent(context_tokens=300), MODEL, earlier, QUESTION)
    assert said(prompt) == ["u:q3", "a:r3", "u:which of these?"]


def test_a_tool_call_and_its_result_reach_the_model_together() -> None:
    earlier = lines("u:look", call("c1"), call("c2", "listen"), result("c1"), result("c2", "heard"), "a:done")
    prompt = choose(agent(), MODEL, earlier, QUESTION)
    calls = messages_of(prompt)[1]
    assert [made["id"] for made in calls["tool_calls"]] == ["c1", "c2"]
    assert calls["tool_calls"][1]["function"] == {"name": "listen", "arguments": "{}"}
    assert [(m["tool_call_id"], m["content"]) for m in messages_of(prompt)[2:4]] == [
        ("c1", "seen"),
        ("c2", "heard"),
    ]


def test_a_tool_pair_across_the_cut_is_left_out_whole() -> None:
    earlier = lines("u:look", call("c1"), result("c1"), "a:done", "u:q2", "a:r2")
    prompt = choose(agent(window_pairs=1), MODEL, earlier, QUESTION)
    assert said(prompt) == ["u:q2", "a:r2", "u:which of these?"]


@pytest.mark.parametrize("half", [call("c1"), result("c1")])
def test_half_a_tool_pair_never_reaches_the_model(half: dict[str, Any]) -> None:
    prompt = choose(agent(), MODEL, lines("u:look", half, "a:hm"), QUESTION)
    assert said(prompt) == ["u:look", "a:hm", "u:which of these?"]
    assert prompt.manifest["left_out"][0]["why"] == "a tool call and its result are only sent together"


def test_a_late_tool_result_stands_right_behind_its_call() -> None:
    earlier = lines("u:look", call("c1"), "u:well?", result("c1"), "a:done")
    roles = [message["role"] for message in choose(agent(), MODEL, earlier, QUESTION).messages]
    assert roles == ["user", "assistant", "tool", "user", "assistant", "user"]


def test_a_failed_question_leaves_the_prompt_once_a_later_one_was_answered() -> None:
    still_open = choose(agent(), MODEL, lines("u:q1", "a:r1", "u:failed"), QUESTION)
    assert said(still_open) == ["u:q1", "a:r1", "u:failed", "u:which of these?"]
    answered = choose(agent(), MODEL, lines("u:failed", "u:q2", "a:r2"), QUESTION)
    assert said(answered) == ["u:q2", "a:r2", "u:which of these?"]
    assert answered.manifest["left_out"][0]["why"].startswith("a question without an answer")


def test_a_question_of_several_messages_is_answered_behind_the_last_of_them() -> None:
    question_lines = [line._replace(turn=1) for line in lines("u:one", "u:two", "a:both")]
    prompt = choose(agent(), MODEL, [*question_lines, *lines("u:q2", "a:r2", start=4)], QUESTION)
    assert said(prompt) == ["u:one", "u:two", "a:both", "u:q2", "a:r2", "u:which of these?"]


def test_a_question_that_is_asked_again_is_told_once() -> None:
    failed = lines("u:one", "u:two", "u:one", "u:two")
    prompt = choose(agent(), MODEL, [*lines("u:q1", "a:r1"), *failed], lines("u:one", "u:two", start=9))
    assert said(prompt) == ["u:q1", "a:r1", "u:one", "u:two"]
    assert prompt.manifest["left_out"][0]["why"].endswith("which is asked again")
    recorded = [line._replace(from_model_turn=False) for line in lines("u:one")]
    assert said(choose(agent(), MODEL, recorded, lines("u:one", start=9))) == ["u:one", "u:one"]


@pytest.mark.parametrize("pairs", [0, 1])
def test_results_come_with_the_calls_that_they_answer(pairs: int) -> None:
    earlier = lines("u:q1", "a:r1", "u:look", call("c1"), call("c2"))
    results = lines(result("c2", "two"), result("c1", "one"), start=9)
    prompt = choose(agent(window_pairs=pairs), MODEL, earlier, results)
    assert [message["role"] for message in messages_of(prompt)] == ["user", "assistant", "tool", "tool"]
    assert [message.get("content") for message in messages_of(prompt)] == ["look", None, "one", "two"]


def test_results_that_do_not_fit_beside_their_calls_are_refused() -> None:
    earlier = lines("u:" + "look " * 60, call("c1"))
    assert choose(agent(context_tokens=500), MODEL, earlier, lines(result("c1"))).messages
    with pytest.raises(MessageTooLong):
        choose(agent(context_tokens=100), MODEL, earlier, lines(result("c1")))


def test_calls_of_two_turns_may_have_the_same_id() -> None:
    earlier = lines("u:q1", call("c1"), result("c1", "one"), "a:r1", "u:q2", call("c1"))
    prompt = choose(agent(), MODEL, earlier, lines(result("c1", "two"), start=9))
    assert [row["content"] for row in messages_of(prompt) if row["role"] == "tool"] == ["one", "two"]


def test_what_a_chat_model_has_no_form_for_in_a_question_is_not_sent() -> None:
    thought = NewMessage(role="assistant", type="reasoning", item={"summary": []}).preview_at(1)
    prompt = choose(agent(), MODEL, [], [thought, *QUESTION])
    assert said(prompt) == ["u:which of these?"]


def test_messages_of_parts_reach_the_model_as_parts() -> None:
    parts = [{"type": "input_text", "text": "what is this?"}, {"type": "input_image", "image_url": "data:x"}]
    item = {"type": "message", "content": parts}
    question = [NewMessage(role="user", content="what is this?", item=item).preview_at(1)]
    (message,) = choose(agent(), MODEL, [], question).messages
    assert message["content"] == [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:x", "detail": "auto"}},
    ]


def test_what_a_chat_model_has_no_form_for_is_named() -> None:
    item = {"type": "message", "content": [{"type": "computer_screenshot", "file_id": "f"}]}
    (message,) = choose(agent(), MODEL, [], [NewMessage(role="user", item=item).preview_at(1)]).messages
    assert message["content"] == "[computer_screenshot]"


def test_a_file_reaches_the_model_as_a_file() -> None:
    item = {"type": "message", "content": [{"type": "input_file", "file_id": "f"}]}
    (message,) = choose(agent(), MODEL, [], [NewMessage(role="user", item=item).preview_at(1)]).messages
    assert message["content"] == [{"type": "file", "file": {"file_id": "f"}}]


def test_there_is_one_system_message_and_it_is_the_first() -> None:
    instruction = NewMessage(role="system", content="Rhyme.").preview_at(3)
    prompt = choose(agent(instructions="Be kind."), MODEL, [*lines("u:hi", "a:hello"), instruction], QUESTION)
    assert said(prompt) == ["s:Be kind.\n\nRhyme.", "u:hi", "a:hello", "u:which of these?"]


def test_a_name_that_the_model_server_would_refuse_is_left_out() -> None:
    for name, sent in {"ada": "ada", "Ada <x>": None}.items():
        question = [NewMessage(role="user", content="hi", name=name).preview_at(1)]
        (message,) = choose(agent(), MODEL, [], question).messages
        assert message.get("name") == sent


texts = st.text(alphabet="abc äπ中😀", min_size=1, max_size=60)
exchange = st.tuples(texts, texts)


@given(st.lists(exchange, max_size=12), texts, st.integers(0, 12), st.integers(40, 600))
def test_whatever_the_history_the_prompt_keeps_its_promises(
    history: list[tuple[str, str]], asked: str, pairs: int, budget: int
) -> None:
    earlier = lines(*[f"{who}:{text}" for pair in history for who, text in zip("ua", pair, strict=True)])
    question = lines("u:" + asked, start=len(earlier) + 1)
    try:
        prompt = choose(agent(window_pairs=pairs), MODEL, earlier, question, budget=budget)
    except MessageTooLong:
        assert _count(said_texts := [asked]) + tokens.REPLY_OVERHEAD > budget, said_texts
        return
    assert prompt.manifest["total"] == total(prompt) <= budget
    contents = [str(message["content"]) for message in messages_of(prompt)]
    assert contents[-1] == asked
    # A stretch of the end, whole pairs, nothing missing and nothing twice.
    flat = [text for pair in history for text in pair]
    assert contents[:-1] == flat[len(flat) - len(contents) + 1 :]
    assert len(contents) % 2 == 1
    assert len(contents) <= 2 * pairs + 1
    assert _count(contents) + tokens.REPLY_OVERHEAD <= budget


def _count(contents: Sequence[str]) -> int:
    return sum(tokens.count(text, MODEL) + tokens.MESSAGE_OVERHEAD for text in contents)
