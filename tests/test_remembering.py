"""The whole of memory, as it reaches the prompt: what is told, what is never told, and what stays still."""

from itertools import pairwise
from typing import Any

import pytest

from convo import context, history, jobs, memory, turns
from convo.agents import Agent
from convo.context import Prompt, gather
from convo.history import NewMessage
from convo.models import ME, NOBODY, Message, Session, Summary, Turn, UserMemory

pytestmark = pytest.mark.django_db

HOME, ASKED = "I live in Lisbon.", "Which city is my home?"


def session(owner: Any, ref: str = ME) -> Session:
    return turns.store_session(turns.new_session(owner, ref))[0]


def say(where: Session, *texts: str) -> None:
    """Questions, each with a reply, and what is thought about them afterwards."""
    drafts = [
        NewMessage(role=role, content=content)
        for text in texts
        for role, content in (("user", text), ("assistant", f"Noted: {len(text)} letters."))
    ]
    turns.record(where, drafts)
    where.refresh_from_db()
    think()


def think() -> None:
    jobs.sweep()


def prompt(where: Session, question: str = ASKED, **options: Any) -> Prompt:
    where.refresh_from_db()
    return turns.preview(where, question, **options)


def sent(made: Prompt) -> str:
    return "\n".join(str(message["content"]) for message in made.messages)


def part(made: Prompt, name: str) -> dict[str, Any]:
    return next((dict(row) for row in made.manifest["parts"] if row["part"] == name), {})


def test_a_fact_is_told_in_a_later_session_with_the_message_that_it_rests_on(alice: Any) -> None:
    first = session(alice)
    say(first, HOME)
    later = prompt(session(alice), "Recommend a restaurant for tonight.")
    assert "Lisbon" in sent(later)
    (source,) = part(later, "facts")["sources"]
    told = Message.objects.get(pk=source["evidence"][0])
    assert (told.session_id, told.content) == (first.pk, HOME)


@pytest.mark.parametrize("other", ["end user 2", NOBODY, ME])
def test_nothing_crosses_from_one_person_to_another(alice: Any, bob: Any, other: str) -> None:
    say(session(alice, "end user 1"), HOME)
    assert "Lisbon" in sent(prompt(session(alice, "end user 1")))
    assert "Lisbon" not in sent(prompt(session(alice, other)))
    assert "Lisbon" not in sent(prompt(session(bob, "end user 1")))


def test_nobodys_session_knows_itself_and_nothing_else(alice: Any) -> None:
    nobodys = session(alice, NOBODY)
    say(nobodys, HOME, *(f"Tell me a joke about number {n}." for n in range(60)))
    assert UserMemory.objects.count() == 0
    made = prompt(nobodys, max_tokens=700)
    assert HOME in sent(made)
    assert part(made, "recalled")["sources"][0]["position"] == 1
    assert "Lisbon" not in sent(prompt(session(alice, NOBODY)))


def test_what_was_corrected_is_told_as_it_is_now(alice: Any) -> None:
    say(session(alice), HOME)
    say(session(alice), "I live in Porto.")
    made = prompt(session(alice), "Where should my parcel go?")
    known = next(part.text for part in made.parts if part.name == "facts")
    assert "Porto" in known
    assert "Lisbon" not in known


def test_what_was_forgotten_is_told_by_nothing_and_nothing_brings_it_back(alice: Any) -> None:
    first = session(alice)
    say(first, HOME, "Tell me a joke.")
    assert "Lisbon" in sent(prompt(session(alice)))
    memory.forget(UserMemory.objects.get(text__contains="Lisbon"))
    for _ in range(2):
        assert "Lisbon" not in sent(prompt(session(alice)))
        # Its own transcript still has it: that is a record, not a memory.
        assert HOME in sent(prompt(first))
        Turn.objects.update(learned_at=None)
        think()
    assert not UserMemory.objects.filter(text__contains="Lisbon").exists()
    assert not Summary.objects.filter(text__contains="Lisbon", stale=False).exists()


def test_a_deleted_message_takes_what_rests_on_it_alone(alice: Any) -> None:
    first = session(alice)
    say(first, HOME)
    history.delete_message(first.pk, 1)
    think()
    assert "Lisbon" not in sent(prompt(session(alice)))
    assert not UserMemory.objects.exists()


def long_conversation(owner: Any, turns_said: int) -> Session:
    where = session(owner)
    filler = "Then we talked about the harbour, the weather and a boat that was for sale. " * 4
    for start in range(0, turns_said, 250):
        texts = [f"Entry {n}: {filler}" for n in range(start, min(start + 250, turns_said))]
        drafts = [NewMessage(role=role, content=text) for text in texts for role in ("user", "assistant")]
        turns.record(where, drafts)
    where.refresh_from_db()
    return where


def test_a_long_session_whose_summaries_are_behind_still_fits_and_says_what_is_uncovered(alice: Any) -> None:
    where = long_conversation(alice, 1000)
    made = prompt(where, max_tokens=4000)
    assert made.manifest["total"] <= 4000
    begins = part(made, "verbatim")["from"]
    assert begins > 1
    (row, *_) = made.manifest["left_out"]
    assert row["to"] < begins
    assert row["why"] in {"older than what fits", "no room in the budget"}


def test_when_summaries_have_caught_up_nothing_is_uncovered(alice: Any) -> None:
    where = long_conversation(alice, 200)
    think()
    made = prompt(where)
    told = Summary.objects.filter(session=where, stale=False).order_by("to_position")
    ranges = list(told.values_list("from_position", "to_position"))
    assert ranges[0][0] == 1
    assert all(one[1] + 1 == following[0] for one, following in pairwise(ranges))
    assert part(made, "summary")["to"] == ranges[-1][1]
    assert part(made, "verbatim")["from"] == ranges[-1][1] + 1
    assert made.manifest["left_out"] == []
    assert made.manifest["total"] <= 16_000


def test_the_beginning_of_the_prompt_stays_the_same_while_no_summary_lands(alice: Any) -> None:
    where = long_conversation(alice, 60)
    think()
    kept, landed, before = [], 0, prompt(where, "Entry?").messages
    summaries = Summary.objects.filter(session=where, stale=False)
    count = summaries.count()
    for number in range(20):
        say(where, f"And what about entry {number}? " + "Tell me more of it. " * 20)
        now = prompt(where, f"Question {number}").messages
        if summaries.count() == count:
            same = next(
                (at for at, (one, other) in enumerate(zip(before, now, strict=False)) if one != other),
                len(now),
            )
            kept.append(weight(now[:same]) / weight(before))
        else:
            landed, count = landed + 1, summaries.count()
        before = now
    assert len(kept) + landed == 20
    assert len(kept) >= 15
    assert min(kept) >= 0.8, (kept, landed)


def weight(messages: Any) -> int:
    return sum(len(str(message["content"])) for message in messages)


@pytest.mark.django_db(transaction=True)
def test_an_old_turn_shows_what_it_saw_but_not_what_was_forgotten_since(alice: Any) -> None:
    say(session(alice), HOME)
    asked = session(alice)
    turns.ask(alice, asked, "Where should my parcel go?")
    turn = Turn.objects.get(session=asked)
    seen = {row["part"]: row for row in context.replay(turn)["parts"]}
    assert "Lisbon" in str(seen["facts"]["sources"][0]["text"])
    assert seen["question"]["sources"][0]["text"] == "Where should my parcel go?"
    assert seen["instructions"]["sources"][0]["text"]
    memory.forget(UserMemory.objects.get(text__contains="Lisbon"))
    turn.refresh_from_db()
    assert "Lisbon" not in str(context.replay(turn))
    assert "Lisbon" not in str(turn.manifest)


def test_an_agent_without_memory_is_told_the_conversation_alone(alice: Any) -> None:
    say(session(alice), HOME)
    where = session(alice)
    plain = Agent(name="plain", memory=False)
    told = gather(where, plain, "Do I live in Lisbon?", upto=0)
    assert [*told.facts, *told.pinned_facts, *told.matches] == []
    known = gather(where, Agent(name="known"), "Do I live in Lisbon?", upto=0)
    assert known.facts
    assert known.matches


def test_an_answer_given_again_is_told_nothing_of_what_came_after_it(alice: Any) -> None:
    where = long_conversation(alice, 60)
    think()
    upto = Summary.objects.filter(session=where, stale=False).latest("to_position").to_position
    known = Agent(name="known")
    now = gather(where, known, "What was entry 3?", upto=where.last_position)
    assert now.summary is not None
    assert max(hit.message.position for hit in now.matches) > 6
    then = gather(where, known, "What was entry 3?", upto=6)
    assert then.summary is None
    assert upto > 6
    assert {hit.message.position for hit in then.matches} <= set(range(1, 7))
    assert {old.position for hit in then.matches for old in hit.neighbours} <= set(range(1, 7))


def test_an_agent_that_recalls_no_messages_is_told_facts_all_the_same(alice: Any) -> None:
    say(session(alice), HOME)
    told = gather(session(alice), Agent(name="known", recall=0), "Do I live in Lisbon?", upto=0)
    assert told.matches == []
    assert [fact.text for fact in told.facts] == ["Lives in Lisbon"]
