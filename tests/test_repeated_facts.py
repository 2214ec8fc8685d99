"""Review 3: a forgotten fact does not come back in a reply that repeats it, and other replies stay."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from convo import context, history, jobs, memory, search, turns
from convo.agents import Agent
from convo.history import NewMessage
from convo.memory.forget import SESSIONS_AT_A_TIME
from convo.models import ME, Evidence, Message, Person, Session, Summary, Turn, UserMemory
from tests.faults import wait_until
from tests.support.learning import known_memories
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

PEANUTS = "Is allergic to peanuts"


@pytest.fixture
def person(alice: Any) -> Person:
    return Person.objects.get_or_create_by_ref(alice, ME)


def new_session(person: Person) -> Session:
    return Session.objects.create(owner=person.owner, person=person, agent="assistant")


def stated(person: Person, text: str) -> UserMemory:
    return memory.remember(person, text, kind="fact")[0]


def learned(person: Person, text: str, message: Message) -> UserMemory:
    fact = stated(person, text)
    Evidence.objects.create(memory=fact, message=message)
    return fact


def said(person: Person, text: str) -> Message:
    return turns.record(new_session(person), [NewMessage(role="user", content=text)])[0]


def given(*facts: UserMemory) -> dict[str, Any]:
    """A part of a prompt's account that names these facts."""
    return {"part": "facts", "sources": [{"memory": str(fact.key), "evidence": []} for fact in facts]}


def answered(session: Session, question: str, reply: str, *parts: dict[str, Any]) -> Message:
    """A turn that a model answered, with this account of its prompt; the reply's message."""
    drafts = [
        NewMessage(role="user", content=question),
        NewMessage(role="assistant", content=reply, agent="assistant"),
    ]
    row = turns.record(session, drafts)[1]
    Turn.objects.filter(pk=row.turn_id).update(kind=Turn.Kind.REPLY, manifest={"parts": parts})
    return row


def index() -> None:
    while search.index_turns():
        pass


def is_recallable(*rows: Message) -> list[bool]:
    return [Message.objects.get(pk=row.pk).recallable for row in rows]


def found(person: Person, query: str) -> list[str]:
    return [hit.content for hit in search.find(person, person.owner, query, neighbours=0)]


def test_a_reply_that_used_the_fact_is_recalled_no_more_and_one_that_did_not_is(
    person: Person, settings: Settings, upstream: Upstream
) -> None:
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "BACKGROUND_MODEL": "offline"}
    fact = learned(person, PEANUTS, said(person, "I am allergic to peanuts."))
    repeating, silent = new_session(person), new_session(person)
    # The parrot says again what was looked up for it; the other one says "word1 word2".
    for session, model in ((repeating, "parrot"), (silent, "words")):
        settings.CONVO = {**settings.CONVO, "MODEL": model}
        turns.ask(person.owner, session, "What shall I cook tonight?")
        Summary.objects.create(session=session, from_position=1, to_position=2, text="Told.", source="model")
    index()
    fork = history.fork(Session.objects.get(pk=repeating.pk), 2)
    index()
    assert any("peanuts" in text for text in found(person, "peanuts"))
    assert sum("peanuts" in row.content for row in Message.objects.filter(agent="assistant")) == 2

    memory.forget(fact)

    assert not any("peanuts" in text for text in found(person, "peanuts allergic"))
    assert "peanuts" not in str(
        context.gather(new_session(person), Agent(name="assistant"), "Any peanuts?", upto=0)
    )
    assert all(text == "" for text in repeating.summaries.values_list("text", flat=True))
    # The transcript keeps the reply, and the question may still be found: it tells nothing.
    for session in (repeating, fork):
        assert "peanuts" in Message.objects.get(session=session, position=2).content
        recallable = Message.objects.filter(session=session).order_by("position")
        assert list(recallable.values_list("recallable", flat=True)) == [True, False]
    # The reply that was given the fact and does not repeat it stays as it was.
    assert found(person, "word2")[0] == "word1 word2 word3 word4 word5 "
    assert list(silent.summaries.values_list("text", "stale")) == [("Told.", False)]
    assert Session.objects.get(pk=silent.pk).epoch == 0

    # Nor does anything bring it back later.
    Turn.objects.update(learned_at=None, indexed_at=None)
    jobs.sweep()
    assert not any("peanuts" in text for text in found(person, "peanuts allergic"))
    assert known_memories(person) == []


@pytest.mark.parametrize(
    ("fact", "question", "reply", "goes"),
    [
        (PEANUTS, "What can I cook?", "No satay, for you are allergic to it.", True),
        (PEANUTS, "What can I cook?", "I left the nuts out.", False),
        (PEANUTS, "Is she allergic to peanuts?", "Yes, allergic to peanuts.", False),
        ("Has a dog called Bo", "Any plans?", "Take Bo along.", True),
        ("Was born in 1987", "How old am I?", "The year was 1987, so 39.", True),
        ("Wohnt in einer großen Stadt", "Wohin heute?", "In den Parks deiner Stadt ist es schön.", True),
        ("Wohnt in einer großen Stadt", "Wohin heute?", "In den Parks ist es schön.", False),
        ("Vit à Lyon", "Où aller ce soir ?", "Il y a un concert à Lyon.", True),
        ("对花生过敏", "今晚吃什么？", "因为你对花生过敏，就吃面条吧。", True),
        ("对花生过敏", "今晚吃什么？", "就吃面条吧。", False),
        ("Живёт в Москве", "Куда пойти?", "Театры Москвы открыты.", True),
        ("أعيش في القاهرة", "أين أذهب؟", "متاحف القاهرة مفتوحة", True),
    ],
)
@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_reply_repeats_a_fact_when_it_has_a_word_of_it_that_its_question_lacks(
    person: Person, fact: str, question: str, reply: str, *, goes: bool, is_indexed: bool
) -> None:
    known = stated(person, fact)
    row = answered(new_session(person), question, reply, given(known))
    other = answered(new_session(person), question, "Good evening.", given(known))
    if is_indexed:
        index()
    memory.forget(known)
    assert is_recallable(row, other) == [not goes, True]


def test_a_reply_that_was_not_given_the_fact_stays_though_it_has_its_words(person: Person) -> None:
    peanuts, tea = stated(person, PEANUTS), stated(person, "Likes green tea")
    unaware = answered(new_session(person), "What is satay?", "Meat with peanuts.", given(tea))
    aware = answered(new_session(person), "What is satay?", "Meat with peanuts.", given(peanuts))
    index()
    memory.forget(peanuts)
    assert is_recallable(unaware, aware) == [True, False]


def test_what_told_the_fact_may_have_been_a_message_in_the_prompt(person: Person) -> None:
    session = new_session(person)
    source = turns.record(session, [NewMessage(role="user", content="I am allergic to peanuts.")])[0]
    fact = learned(person, PEANUTS, source)
    evidence = {"part": "facts", "sources": [{"memory": "of a merged guest", "evidence": [source.pk]}]}
    recalled = {"part": "recalled", "sources": [{"session": str(session.pk), "position": 1}]}
    elsewhere = {"part": "recalled", "sources": [{"session": str(session.pk), "position": 7}]}
    verbatim = {"part": "verbatim", "from": 1, "to": 1}
    rows = [
        answered(new_session(person), "What now?", "No peanuts.", evidence),
        answered(new_session(person), "What now?", "No peanuts.", recalled),
        answered(new_session(person), "What now?", "No peanuts.", elsewhere),
        answered(new_session(person), "What now?", "No peanuts.", verbatim),
        answered(session, "What now?", "No peanuts.", verbatim),
    ]
    # One that recalled a reply which repeats the fact.
    second = {"part": "recalled", "sources": [{"session": str(rows[0].session_id), "position": 2}]}
    rows.append(answered(new_session(person), "What now?", "No peanuts.", second))
    index()
    memory.forget(fact)
    assert is_recallable(*rows) == [False, False, True, True, False, False]


@pytest.mark.parametrize("how", ["one", "some", "all"])
def test_a_corrected_fact_goes_with_what_was_said_of_it_before(person: Person, how: str) -> None:
    old = stated(person, "Lives in Oslo")
    then = answered(new_session(person), "Where to?", "Oslo has a new library.", given(old))
    new = memory.change(old, text="Lives in Bergen")
    now = answered(new_session(person), "Where to?", "Bergen has a harbour.", given(new))
    other = answered(new_session(person), "Where to?", "The harbour.", given(new))
    index()
    # The correction alone forgets nothing.
    assert is_recallable(then, now, other) == [True, True, True]
    match how:
        case "one":
            memory.forget(new)
        case "some":
            memory.forget_matching(person, "bergen")
        case "all":
            memory.forget_all(person)
    assert is_recallable(then, now, other)[:2] == [False, False]
    assert is_recallable(other) == [how != "all"]


def test_of_many_replies_few_go_and_their_sessions_are_locked_in_batches(person: Person) -> None:
    facts = [stated(person, f"Has a friend called Name{number}") for number in range(200)]
    parts = given(*facts)
    sessions = [new_session(person) for _ in range(100)]
    replies = [
        answered(
            sessions[number % 100],
            f"Whom shall I ask, number {number}?",
            f"You have a friend whom you can ask: Name{number % 200}.",
            parts,
        )
        for number in range(450)
    ]
    repeating = [
        answered(session, "Whom shall I ask?", "Better than anybody: Name7.", parts)
        for session in sessions[50:71]
    ]
    replies += repeating
    replies += [answered(sessions[0], "And then?", "Then you call.", parts) for _ in range(29)]
    index()
    assert len(replies) == 500
    with CaptureQueriesContext(connection) as queries:
        memory.forget(facts[7])
    recallable = set(Message.objects.filter(recallable=True).values_list("pk", flat=True))
    gone = [row.content for row in replies if row.pk not in recallable]
    assert len(gone) == 24 < 0.05 * len(replies)
    assert all(text.endswith("Name7.") for text in gone)
    changed = sessions_changed_in_each_transaction([query["sql"] for query in queries.captured_queries])
    assert sum(changed) == 22
    assert max(changed) == 20 == SESSIONS_AT_A_TIME


def sessions_changed_in_each_transaction(statements: Sequence[str]) -> list[int]:
    counts = [0]
    for sql in statements:
        counts[-1] += sql.startswith('UPDATE "convo_session" SET "epoch"')
        if sql == "COMMIT":
            counts.append(0)
    return counts


def test_what_nearly_every_reply_says_is_no_sign_of_the_fact(person: Person) -> None:
    """Nor is the person's own name, while other facts have it; a fact of common words goes by one of them."""
    home, name = stated(person, "The user Ada lives near Oslo"), stated(person, "The name is Ada")
    music = stated(person, "Likes music")
    session, parts = new_session(person), given(home, name, music)
    plain = [answered(session, "And?", "Good, Ada, the music and where one lives.", parts) for _ in range(40)]
    telling = answered(session, "And?", "Ada, the ferry to Oslo.", parts)
    index()
    memory.forget(home)
    assert is_recallable(*plain, telling) == [True] * 40 + [False]
    # The last fact that has the name.
    memory.forget(name)
    assert not any(is_recallable(*plain))


def test_a_fact_of_common_words_alone_goes_by_the_least_common_of_them(person: Person) -> None:
    music = stated(person, "Plays music")
    session = new_session(person)
    both = [answered(session, "And?", "Play some music.", given(music)) for _ in range(30)]
    one = [answered(session, "And?", "Play it.", given(music)) for _ in range(10)]
    index()
    memory.forget(music)
    assert not any(is_recallable(*both))
    assert all(is_recallable(*one))


@pytest.mark.parametrize("is_forgotten", [True, False])
def test_a_reply_that_is_being_written_when_its_fact_is_forgotten_is_not_recalled(
    person: Person, settings: Settings, upstream: Upstream, *, is_forgotten: bool
) -> None:
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": "hold"}
    old, fact = stated(person, "Likes green tea"), stated(person, PEANUTS)
    # What was forgotten before the turn began is not in its prompt.
    memory.forget(old)
    session = new_session(person)
    asking = threading.Thread(target=ask_apart, args=(person, session))
    asking.start()
    try:
        wait_until(lambda: Turn.objects.filter(session=session, manifest__isnull=False).exists())
        if is_forgotten:
            memory.forget(fact)
    finally:
        upstream.release()
        asking.join(30)
    reply = Message.objects.get(session=session, agent="assistant")
    assert reply.content == "first second last"
    assert reply.recallable is not is_forgotten
    assert Message.objects.get(session=session, position=1).recallable
    index()
    assert (found(person, "second") == []) is is_forgotten


def ask_apart(person: Person, session: Session) -> None:
    try:
        turns.ask(person.owner, session, "What shall I cook tonight?")
    finally:
        connections.close_all()
