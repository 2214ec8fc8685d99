"""Review 2: a session whose storage is `none` answers any number of questions and stores none of its text."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from convo import guests, llm, turns, verify
from convo.errors import NotFound, TurnCancelled
from convo.models import Guest, Session, Turn, TurnRequest
from convo.turns import Claim
from convo.turns.chain import new_chain
from convo.turns.claim import begin_unstored
from convo.turns.finish import finish as end
from convo.turns.reply import ReplyBuilder
from tests.support.ephemeral import SECRET, new_chat, told
from tests.support.rest import Caller, ok
from tests.talk import ask, begin, finish, user
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

STORAGES = ["persistent", "ephemeral", "none"]
KEY = {"Idempotency-Key": "once"}
MESSAGES = {"messages": [{"role": "user", "content": SECRET}, {"role": "assistant", "content": "noted"}]}


@pytest.fixture(autouse=True)
def _agents(settings: Settings, upstream: Upstream, tmp_path: Path) -> None:
    """One agent for each storage, which repeats what it is asked."""
    file = tmp_path / "agents.yaml"
    agents = "".join(f"  {name}:\n    storage: {name}\n    model: echo\n" for name in STORAGES)
    file.write_text(f"default: persistent\nagents:\n{agents}  fails:\n    model: '500'\n    storage: none\n")
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "AGENTS_FILE": str(file)}


@pytest.fixture
def caller(alice_key: str) -> Caller:
    return Caller(alice_key)


def numbers() -> list[int]:
    return list(Turn.objects.order_by("number").values_list("number", flat=True))


def check_counters(turn_count: int) -> None:
    session = Session.objects.get()
    assert (session.last_turn, session.turn_count) == (turn_count, turn_count)
    assert numbers() == list(range(1, turn_count + 1))
    assert [finding for checked in verify.check_all() for finding in checked.findings] == []


@pytest.mark.parametrize("storage", STORAGES)
def test_a_session_of_any_storage_answers_every_question(caller: Caller, storage: str) -> None:
    address = caller.make(agent=storage)
    created = ok(caller.get(address))["last_activity"]
    for count in (1, 2, 3):
        answer = caller.ask(address, f"{count} {SECRET}")
        assert answer["turn"]["number"] == count
        assert answer["message"]["content"].strip().endswith(f"{count} {SECRET}")
        check_counters(count)
    caller.append(address, *MESSAGES["messages"])
    caller.append(address, *MESSAGES["messages"], *MESSAGES["messages"])
    check_counters(6)
    ok(caller.send(f"{address}turns/1/edit/", {"message": f"rather {SECRET}"}))
    check_counters(7)
    assert caller.ask(address, "and now?")["turn"]["number"] == 8
    shown = ok(caller.get(address))
    assert (shown["turn_count"], shown["storage"]) == (8, storage)
    assert shown["last_activity"] > created
    assert bool(told()) == (storage == "persistent")
    assert len(caller.history(address)) == (4 if storage != "none" else 0)


def test_a_failed_question_takes_its_number_and_the_next_one_is_answered(caller: Caller, alice: Any) -> None:
    address = caller.make(agent="none")
    assert caller.send(f"{address}query/", {"message": SECRET, "agent": "fails"}).status_code == 502
    assert caller.ask(address, SECRET)["turn"]["number"] == 2
    check_counters(2)
    ended = caller.send(f"{address}turns/1/regenerate/")
    assert ended.status_code == 404
    assert "its session stores nothing" in ended.json()["error"]["message"]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_question_that_waits_in_the_queue_is_stored_only_in_a_kept_session(
    alice: User, storage: str
) -> None:
    session = new_chat(alice, storage)
    running = begin(session, "first")
    waiting = begin(session, f"second {SECRET}", on_busy="queue")
    waiting_too = begin(session, f"third {SECRET}", on_busy="queue")
    assert told() == (["convo_turn"] if storage == "persistent" else [])
    for claim, text in ((running, "first"), (waiting, "second"), (waiting_too, "third")):
        message = finish(claim).message
        assert message
        assert text in message.content
    check_counters(3)
    assert bool(told()) == (storage == "persistent")


def test_a_queued_question_that_is_cancelled_is_not_asked(alice: User) -> None:
    session = new_chat(alice, "none")
    running = begin(session, "first")
    waiting = begin(session, SECRET, on_busy="queue")
    turns.cancel(waiting.turn)
    finish(running)
    with pytest.raises(TurnCancelled):
        finish(waiting)
    assert ask(session, "third").turn.number == 3
    check_counters(3)
    with pytest.raises(NotFound):
        turns.regenerate(session, 2)


@pytest.mark.parametrize("storage", STORAGES)
def test_an_answer_that_is_not_stored_is_not_told_again_and_not_asked_again(
    caller: Caller, upstream: Upstream, storage: str
) -> None:
    """A kept or temporary session repeats it; elsewhere an empty reply marked complete would be worse."""
    address = caller.make(agent=storage)
    for path, body in (
        ("query/", {"message": SECRET}),
        ("query/", {"message": SECRET, "stream": True}),
        ("messages/", MESSAGES),
    ):
        headers = {"Idempotency-Key": f"{path} {len(body)}"}
        first = caller.send(f"{address}{path}", body, headers=headers)
        assert first.status_code < 300
        before = (len(upstream.heard), numbers())
        again = caller.send(f"{address}{path}", body, headers=headers)
        assert (len(upstream.heard), numbers()) == before
        if storage == "none":
            assert again.status_code == 410
            assert (
                again.json()["error"]["message"]
                == "This response was not stored, so it can't be replayed. Use a new Idempotency-Key."
            )
        else:
            assert again.status_code == first.status_code
    assert bool(told()) == (storage == "persistent")


def test_a_question_that_failed_is_asked_again_under_its_key(caller: Caller, alice: User) -> None:
    address = caller.make(agent="none")
    refused = {"message": SECRET, "agent": "fails"}
    assert caller.send(f"{address}query/", refused, headers=KEY).status_code == 502
    assert caller.send(f"{address}query/", refused, headers=KEY).status_code == 502
    assert numbers() == [1, 2]
    edited = {"message": SECRET, "agent": "fails"}
    key = {"Idempotency-Key": "edited"}
    for _ in range(2):
        assert caller.send(f"{address}turns/1/edit/", edited, headers=key).status_code == 502
    assert numbers() == [1, 2, 3, 4]


def test_a_response_that_is_not_to_be_stored_is_asked_again_under_its_key(caller: Caller) -> None:
    for path, body in (
        ("/v1/responses", {"model": "500", "input": SECRET, "store": False}),
        ("/v1/chat/completions", {"model": "agent/fails", "messages": [{"role": "user", "content": SECRET}]}),
    ):
        for _ in range(2):
            assert caller.send(path, body, headers={"Idempotency-Key": path}).status_code == 502
    assert told() == []


def test_the_page_refuses_an_agent_whose_reply_it_could_not_show(alice: User) -> None:
    visitor = Client()
    visitor.force_login(alice)
    refused = visitor.post("/", {"message": SECRET, "agent": "none"})
    assert refused.status_code == 400
    assert "stores no messages" in refused.content.decode()
    session = new_chat(alice, "none")
    assert visitor.post(f"/c/{session.pk}/", {"message": SECRET}).status_code == 400
    assert not Turn.objects.exists()
    assert visitor.post("/", {"message": "hello", "agent": "persistent"}).status_code == 302
    assert Turn.objects.count() == 1


def test_a_stored_question_is_not_stored_twice(caller: Caller) -> None:
    """The positive control of the question that is asked again under its key."""
    address = caller.make(agent="persistent")
    refused = {"message": SECRET, "agent": "fails"}
    for _ in range(2):
        assert caller.send(f"{address}query/", refused, headers=KEY).status_code == 502
    assert [message["content"] for message in caller.history(address)] == [SECRET]


def test_questions_are_numbered_in_a_session_of_any_storage_and_kind(alice: User) -> None:
    for storage in STORAGES:
        for session in (
            new_chat(alice, storage),
            turns.store_session(turns.new_chain(alice, "", storage=storage))[0],
        ):
            assert [finish(turns.begin(session, user("hi"))).turn.number for _ in range(3)] == [1, 2, 3]


def passed_through(owner: User) -> tuple[Claim, ReplyBuilder]:
    """A chat that has just been passed through, of which nothing is stored yet."""
    options = {"messages": [{"role": "user", "content": "hello"}], "model": "echo"}
    request = TurnRequest(options=options, params={"model": "echo"})
    claim = begin_unstored(new_chain(owner, "", storage="none"), agent="passthrough", request=request)
    reply = ReplyBuilder()
    reply.add(llm.TextDelta("hello"))
    return claim, reply


def test_a_chat_whose_guest_has_signed_in_is_answered(alice: User) -> None:
    guest = User.objects.create(username="guest")
    Guest.objects.create(user=guest)
    claim, reply = passed_through(User.objects.get(pk=guest.pk))
    guests.merge_into_account(guest, alice)
    result = end(claim, reply, None)
    assert result
    assert result.message
    assert (result.message.content, result.turn.status) == ("hello", "complete")
    assert not Turn.objects.exists()


def test_a_chat_whose_commit_was_not_heard_of_is_stored_once(alice: User) -> None:
    claim, reply = passed_through(alice)
    results = [end(claim, reply, None) for _ in range(2)]
    assert [result and result.message and result.message.content for result in results] == ["hello", "hello"]
    assert Turn.objects.get().status == "complete"
