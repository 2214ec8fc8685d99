"""A guest who gets an account keeps everything, and the account loses nothing by it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone
from pytest_django import Settings

from convo import guests, memory, search, turns, verify
from convo.history import NewMessage
from convo.models import (
    ME,
    NOBODY,
    ApiKey,
    Attachment,
    AttachmentUse,
    Evidence,
    IdempotencyRecord,
    IndexedMemory,
    IndexedMessage,
    Message,
    Person,
    Session,
    Turn,
    UserMemory,
)
from tests.support.learning import known_memories
from tests.support.search import index_memories
from tests.talk import begin, finish, said
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

Status = UserMemory.Status


@pytest.fixture
def guest() -> Any:
    return guests.create_guest()


def me(user: Any) -> Person:
    return Person.objects.get_or_create_by_ref(user, ME)


def conversation(person: Person, *told: str, **fields: Any) -> Session:
    session = Session.objects.create(owner=person.owner, person=person, agent="assistant", **fields)
    if told:
        turns.record(session, [NewMessage(role="user", content=text) for text in told])
    return session


def fact(person: Person, text: str, *, message: Message | None = None, **fields: Any) -> UserMemory:
    key = memory.text_key(person, text)
    given = {"kind": "identity", "source": UserMemory.Source.PATTERN, **fields}
    made = UserMemory.objects.create(person=person, text=text, text_key=key, **given)
    if message:
        Evidence.objects.create(memory=made, message=message)
    return made


def known(user: Any) -> list[str]:
    return [row.text for row in known_memories(me(user))]


def assert_sound() -> None:
    """Every session is as it must be, and no row belongs to a person of somebody else's."""
    for session in Session.objects.all():
        checked = verify.check(session.pk)
        assert checked
        assert checked.findings == []
    for row in IndexedMessage.objects.select_related("session"):
        assert (row.owner_id, row.person_id) == (row.session.owner_id, row.session.person_id)
    for one in UserMemory.objects.exclude(status=Status.FORGOTTEN):
        assert one.text_key == memory.text_key(one.person, one.text)


def gone(guest: Any) -> bool:
    return not get_user_model().objects.filter(pk=guest.pk).exists()


def test_conversations_come_along_and_the_guest_is_gone(guest: Any, alice: User, bob: User) -> None:
    own, foreign = conversation(me(alice), "hers"), conversation(me(bob), "his")
    open, archived = conversation(me(guest), "one", "two"), conversation(me(guest), state="archived")
    guests.merge_into_account(guest, alice)
    assert gone(guest)
    assert set(Session.objects.owned_by(alice)) == {own, open, archived}
    assert set(Session.objects.owned_by(bob)) == {foreign}
    assert said(open) == ["u:one", "u:two"]
    assert_sound()


def test_each_person_behind_the_guest_meets_the_one_of_the_same_name(guest: Any, alice: User) -> None:
    both, new, nobody = (Person.objects.get_or_create_by_ref(guest, ref) for ref in ("mira", "theo", NOBODY))
    mira = Person.objects.get_or_create_by_ref(alice, "mira")
    for person in (both, new, nobody):
        conversation(person, f"of {person.ref}")
    guests.merge_into_account(guest, alice)
    assert list(mira.sessions.values_list("messages__content", flat=True)) == ["of mira"]
    assert (
        Session.objects.owned_by(alice, "theo").count()
        == Session.objects.owned_by(alice, NOBODY).count()
        == 1
    )
    assert_sound()


def test_a_name_that_the_account_has_given_already_stays_with_its_conversation(
    guest: Any, alice: User
) -> None:
    hers = conversation(me(alice), ref="support")
    theirs, other = conversation(me(guest), "hello", ref="support"), conversation(me(guest), ref="sales")
    guests.merge_into_account(guest, alice)
    refs = dict(Session.objects.owned_by(alice).values_list("pk", "ref"))
    assert refs == {hers.pk: "support", theirs.pk: None, other.pk: "sales"}


def test_what_the_guest_said_is_found_in_the_account(guest: Any, alice: User, bob: User) -> None:
    conversation(me(guest), "The standby key lies under the blue flowerpot.")
    conversation(Person.objects.get_or_create_by_ref(guest, NOBODY), "The nobody key is in the shed.")
    search.index_turns()
    assert search.find(me(guest), guest, "Where is the standby key?")
    guests.merge_into_account(guest, alice)
    found = search.find(me(alice), alice, "Where is the standby key?")
    assert [hit.content for hit in found] == ["The standby key lies under the blue flowerpot."]
    assert len(search.find(None, alice, "key")) == 2
    assert search.find(me(bob), bob, "key") == []
    assert_sound()


def test_what_is_being_indexed_meanwhile_is_not_written_for_the_guest(guest: Any, alice: User) -> None:
    session = conversation(me(guest), "The standby key lies under the blue flowerpot.")
    made = search.index.build_index_batch(list(Turn.objects.values_list("pk", flat=True)))
    guests.merge_into_account(guest, alice)
    search.index.save_index_batch(made)
    assert not IndexedMessage.objects.exists()
    search.index_turns()
    assert IndexedMessage.objects.get().owner == alice
    assert verify.check(session.pk)
    assert_sound()


@pytest.mark.parametrize("with_person", [True, False])
def test_a_reply_that_is_being_written_is_finished_in_the_account(
    guest: Any, alice: User, settings: Settings, upstream: Upstream, with_person: bool
) -> None:
    """The caller has loaded the session with its person, or without."""
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": "words"}
    session = conversation(me(guest))
    claim = begin(session if with_person else Session.objects.get(), "hello")
    guests.merge_into_account(guest, alice)
    result = finish(claim)
    assert result.turn.status == Turn.Status.COMPLETE
    assert said(session) == ["u:hello", "a:word1 word2 word3 word4 word5 "]
    assert Session.objects.get().owner == alice
    assert_sound()


def test_memories_come_along_with_what_they_rest_on(guest: Any, alice: User) -> None:
    session = conversation(me(guest), "I live in Oslo.")
    moved = fact(me(guest), "Lives in Oslo", message=session.messages.get(), pinned=True)
    doubtful = fact(me(guest), "Likes rain", status=Status.NEEDS_REVIEW)
    index_memories()
    guests.merge_into_account(guest, alice)
    assert known(alice) == ["Lives in Oslo"]
    assert Evidence.objects.get().memory == moved
    assert UserMemory.objects.get(pk=doubtful.pk).person == me(alice)
    assert [pk for pk, _ in search.find_memories(me(alice), "Where does she live?")] == [moved.pk]
    assert IndexedMemory.objects.get().person == me(alice)
    assert_sound()


def test_a_fact_that_both_know_is_known_once_and_rests_on_both(guest: Any, alice: User) -> None:
    here, there = conversation(me(alice), "Oslo is home."), conversation(me(guest), "I live in Oslo.")
    kept = fact(me(alice), "Lives in Oslo", message=here.messages.get())
    old = fact(me(guest), "Lives in Bonn", status=Status.SUPERSEDED)
    twin = fact(me(guest), "lives in oslo.", message=there.messages.get())
    UserMemory.objects.filter(pk=old.pk).update(superseded_by=twin)
    guests.merge_into_account(guest, alice)
    assert known(alice) == ["Lives in Oslo"]
    assert kept.evidence.count() == 2
    old.refresh_from_db()
    assert (old.person, old.superseded_by) == (me(alice), kept)
    assert_sound()


@pytest.mark.parametrize(("days", "holds"), [(1, "Lives in Oslo"), (-1, "Lives in Bonn")])
def test_of_two_facts_that_exclude_each_other_the_later_one_holds(
    guest: Any, alice: User, days: int, holds: str
) -> None:
    then = timezone.now() - timedelta(days=9)
    fact(me(alice), "Lives in Bonn", slot="home", valid_from=then)
    fact(me(guest), "Lives in Oslo", slot="home", valid_from=then + timedelta(days=days))
    guests.merge_into_account(guest, alice)
    assert known(alice) == [holds]
    replaced = UserMemory.objects.get(status=Status.SUPERSEDED)
    assert replaced.superseded_by
    assert replaced.superseded_by.text == holds
    assert_sound()


def test_what_the_account_forgot_or_ruled_out_does_not_come_back(guest: Any, alice: User) -> None:
    memory.forget(fact(me(alice), "Lives in Oslo"))
    memory.set_rules(me(alice), ["salary"])
    session = conversation(me(guest), "I live in Oslo.", "My salary is small.", "I like rain.")
    texts = ["Lives in Oslo", "Has a small salary", "Likes rain"]
    for text, message in zip(texts, session.messages.order_by("position"), strict=True):
        fact(me(guest), text, message=message)
    before = fact(me(guest), "Lives in Bonn", status=Status.SUPERSEDED)
    before.superseded_by = UserMemory.objects.get(person=me(guest), text="Lives in Oslo")
    before.save()
    guests.merge_into_account(guest, alice)
    assert known(alice) == ["Likes rain"]
    texts = list(UserMemory.objects.exclude(text="").values_list("text", flat=True))
    assert texts == ["Likes rain"]
    assert_sound()


def test_what_the_guest_ruled_out_is_ruled_out_in_the_account(guest: Any, alice: User) -> None:
    memory.set_rules(me(alice), ["salary", "kind:health"])
    memory.set_rules(me(guest), ["salary", "address"])
    guests.merge_into_account(guest, alice)
    assert me(alice).never_store == ["salary", "kind:health", "address"]


def test_what_is_being_learned_meanwhile_is_learned_later(guest: Any, alice: User) -> None:
    before = me(alice).epoch
    conversation(me(guest), "I live in Oslo.")
    guests.merge_into_account(guest, alice)
    assert me(alice).epoch == before + 1
    assert Turn.objects.filter(learned_at=None).exists()


def test_a_file_that_both_have_is_kept_once(guest: Any, alice: User) -> None:
    def file(person: Person, sha256: str) -> Attachment:
        return Attachment.objects.create(
            person=person, sha256=sha256, mime="text/plain", size=1, data=sha256.encode()
        )

    session = conversation(me(guest), "look", "and here")
    hers, same, own = file(me(alice), "a"), file(me(guest), "a"), file(me(guest), "b")
    for message, attachment in zip(session.messages.order_by("position"), (same, own), strict=True):
        AttachmentUse.objects.create(message=message, attachment=attachment)
    guests.merge_into_account(guest, alice)
    assert set(Attachment.objects.filter(person=me(alice))) == set(Attachment.objects.all()) == {hers, own}
    shown = AttachmentUse.objects.order_by("message__position").values_list("attachment", flat=True)
    assert list(shown) == [hers.pk, own.pk]


def test_a_write_that_is_sent_again_is_known_in_the_account(guest: Any, alice: User) -> None:
    def key(owner: Any, name: str, answer: str) -> None:
        IdempotencyRecord.objects.create(
            owner=owner, key=name, fingerprint="f", status=200, body={"a": answer}
        )

    key(alice, "both", "hers")
    key(guest, "both", "theirs")
    key(guest, "new", "theirs")
    program, raw = ApiKey.objects.issue(guest)
    guests.merge_into_account(guest, alice)
    answers = {row.key: row.body for row in IdempotencyRecord.objects.filter(owner=alice)}
    assert answers == {"both": {"a": "hers"}, "new": {"a": "theirs"}}
    found = ApiKey.objects.find(raw)
    assert found == program
    assert found
    assert found.owner == alice


def test_a_guest_is_one_by_a_row_and_nobody_by_their_name(alice: User, guest: Any) -> None:
    """Review 13."""
    named_so = get_user_model().objects.create_user("guest-x")
    assert not named_so.has_usable_password()  # they come in by another way, such as single sign-on
    conversation(me(named_so), "theirs")
    assert not guests.is_guest(named_so)
    guests.merge_into_account(named_so, alice)
    assert not gone(named_so)
    assert not guests.convert_to_account(named_so, "carol", "a good password")
    guest.username = "no name of a guest"
    guest.save()
    assert guests.is_guest(guest)
    assert guests.convert_to_account(guest, "guest-y", "a good password")
    assert not guests.is_guest(guest)


def test_whoever_has_an_account_is_not_joined_to_another(alice: User, bob: User, guest: Any) -> None:
    conversation(me(bob), "his")
    guests.merge_into_account(bob, alice)
    assert Session.objects.owned_by(bob).count() == 1
    # A guest who has become an account a moment ago, in another window.
    conversation(me(guest), "theirs")
    stale = get_user_model().objects.get(pk=guest.pk)
    assert guests.convert_to_account(guest, "carol", "a good password")
    guests.merge_into_account(stale, alice)
    assert not guests.convert_to_account(stale, "dora", "a good password")
    assert [session.owner.get_username() for session in Session.objects.exclude(owner=bob)] == ["carol"]
    assert not Session.objects.owned_by(alice).exists()


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What they answer, or raise, called at the same time."""

    def called(call: Callable[[], object]) -> object:
        try:
            return call()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(called, calls))


def test_two_that_join_at_once_leave_everything_in_one_account(guest: Any, alice: User, bob: User) -> None:
    for number in range(20):
        session = conversation(me(guest), f"message {number}")
        fact(me(guest), f"Fact {number}", message=session.messages.get())
    calls = [lambda to=to: guests.merge_into_account(guest, to) for to in (alice, bob, alice, bob)]
    assert at_once(*calls) == [None] * 4
    assert sorted([Session.objects.owned_by(alice).count(), Session.objects.owned_by(bob).count()]) == [0, 20]
    assert sorted([len(known(alice)), len(known(bob))]) == [0, 20]
    assert gone(guest)
    assert_sound()


def test_what_the_guest_writes_at_that_moment_is_not_lost(guest: Any, alice: User) -> None:
    session = conversation(me(guest), "before")

    def write(text: str) -> None:
        turns.record(session, [NewMessage(role="user", content=text)])

    writes = [lambda text=f"meanwhile {n}": write(text) for n in range(6)]
    answers = at_once(*writes[:3], lambda: guests.merge_into_account(guest, alice), *writes[3:])
    assert answers == [None] * 7
    assert len(said(session)) == 7
    assert Session.objects.get().owner == alice
    assert_sound()


def test_a_conversation_begun_at_that_moment_comes_along_or_is_refused(guest: Any, alice: User) -> None:
    me(guest)

    def start() -> Any:
        claim = turns.begin(turns.new_session(guest, ME), [NewMessage(role="user", content="hello")])
        return claim.session_id

    begun = [
        answer
        for answer in at_once(start, lambda: guests.merge_into_account(guest, alice), start, start)
        if answer
    ]
    there = {answer for answer in begun if not isinstance(answer, Exception)}
    assert set(Session.objects.owned_by(alice).values_list("pk", flat=True)) == there
    assert Session.objects.count() == len(there)
    assert gone(guest)
