"""The statements that are written by hand give the ORM's answers, whatever is in the tables."""

import random
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Model
from django.utils import timezone

from convo import history
from convo.history import TranscriptMessage, statements
from convo.models import (
    ApiKey,
    Evidence,
    IndexedMemory,
    Message,
    Person,
    Session,
    Summary,
    Turn,
    UserMemory,
)
from tests.support.rows import new_rows


def columns(row: Model, *names: str) -> dict[str, Any]:
    """The loaded columns of a row, or some of them."""
    fields = {field.attname for field in row._meta.concrete_fields}
    return {name: value for name, value in vars(row).items() if name in (names or fields)}


def make_session(owner: Any, seed: int, **fields: Any) -> Session:
    """Make a session with messages of every sort: hidden, erased, of one agent only, with items."""
    choose = random.Random(seed)
    person = Person.objects.get_or_create_by_ref(owner, choose.choice(["", "ann"]))
    session = Session.objects.create(
        owner=owner, person=person, agent="helper", metadata={"topic": "tea", "a": "1"}, **fields
    )
    position = 1
    for number in range(1, choose.randint(4, 16)):
        positions = range(position, position + choose.randint(1, 4))
        turn, messages = new_rows(session, choose, number=number, positions=positions)
        turn.save()
        Message.objects.bulk_create(messages)
        position = positions.stop
    return session


@pytest.mark.django_db
def test_a_key_is_the_one_that_the_orm_finds_with_its_owner(
    alice: AbstractBaseUser, bob: AbstractBaseUser
) -> None:
    secrets = [ApiKey.objects.issue(owner, scopes=["read"])[1] for owner in (alice, bob, bob)]
    for secret in secrets:
        found = ApiKey.objects.find(secret)
        expected = ApiKey.objects.select_related("owner").get(prefix=secret.split("_")[1])
        assert found is not None
        assert columns(found) == columns(expected)
        assert columns(found.owner) == columns(expected.owner)
    assert ApiKey.objects.find("convo_ffffffffffff_x") is None


@pytest.mark.django_db
def test_a_person_is_the_one_that_the_orm_finds(alice: Any, bob: Any) -> None:
    names = [(owner, ref) for owner in (alice, bob) for ref in ("", "me", "ann", "Ann", "50 %s")]
    for owner, ref in names:
        Person.objects.create(owner=owner, ref=ref, epoch=len(ref), never_store=["diet", ref])
    for owner, ref in [*names, (alice, "new")]:
        person_by_hand = Person.objects.get_or_create_by_ref(owner, ref)
        assert columns(person_by_hand) == columns(Person.objects.get(owner=owner, ref=ref))
        assert person_by_hand.owner is owner
    assert Person.objects.count() == len(names) + 1


@pytest.mark.django_db
@pytest.mark.parametrize("person_refs", [None, [""], ["ann"], ["", "ann"]])
def test_a_session_is_the_one_that_the_orm_finds(
    alice: AbstractBaseUser, bob: AbstractBaseUser, person_refs: list[str] | None
) -> None:
    deleted = {"state": "deleted", "state_before": "open", "expires_at": timezone.now()}
    kinds: list[dict[str, Any]] = [{}, {}, {"kind": "chain"}, deleted, {"storage": "ephemeral"}]
    all_sessions = [
        make_session(owner, seed, **fields) for owner in (alice, bob) for seed, fields in enumerate(kinds)
    ]
    visible = Session.objects.owned_by(alice).select_related("person")
    if person_refs is not None:
        visible = visible.filter(person__ref__in=person_refs)
    for session in all_sessions:
        found = history.find_session(alice, session.pk, person_refs=person_refs)
        expected = visible.filter(pk=session.pk).first()
        assert (found is None) == (expected is None)
        if found and expected:
            assert columns(found) == columns(expected)
            assert columns(found.person) == columns(expected.person)
            assert found.owner == alice


@pytest.mark.django_db
def test_a_page_of_messages_is_the_one_that_the_orm_reads(alice: AbstractBaseUser) -> None:
    choose = random.Random(1)
    pages_with_more = 0
    for seed in range(12):
        session = make_session(alice, seed)
        transcript = list(Message.objects.transcript(session).select_related("turn"))
        for _ in range(12):
            after, before = (choose.choice([None, choose.randint(0, 42)]) for _ in range(2))
            newest_first, size = choose.random() < 0.5, choose.randint(1, 10)
            page = history.page(session, after=after, before=before, newest_first=newest_first, size=size)
            upper = 10**9 if before is None else before
            between = [row for row in transcript if (after or 0) < row.position < upper]
            from_the_end = newest_first if (after is None) == (before is None) else before is not None
            expected = between[-size:] if from_the_end else between[:size]
            assert [columns(row) for row in page.messages] == [
                columns(row) for row in (expected[::-1] if newest_first else expected)
            ]
            assert [(row.turn.number, row.turn.status) for row in page.messages] == [
                (row.turn.number, row.turn.status) for row in (expected[::-1] if newest_first else expected)
            ]
            older = [row for row in transcript if expected and row.position < expected[0].position]
            newer = [row for row in transcript if expected and row.position > expected[-1].position]
            assert (page.has_older, page.has_newer) == (bool(older), bool(newer))
            pages_with_more += page.has_older and page.has_newer
    assert pages_with_more


@pytest.mark.django_db
def test_a_row_that_was_read_by_hand_is_a_row_of_the_orm(alice: AbstractBaseUser) -> None:
    row = history.page(make_session(alice, 1), newest_first=False, size=1).messages[0]
    stored = Message.objects.select_related("turn").get(pk=row.pk)
    for found, expected in ((row, stored), (row.turn, stored.turn)):
        assert (found._state.adding, found._state.db) == (expected._state.adding, expected._state.db)
        assert found == expected
    # A column that was not read is loaded, and a row is saved in place.
    assert row.turn.get_deferred_fields() >= {"manifest", "draft"}
    assert row.turn.draft == stored.turn.draft
    row.name = "Ann"
    row.save()
    assert Message.objects.get(pk=row.pk).name == "Ann"


@pytest.mark.django_db
def test_the_newest_messages_are_those_that_the_orm_reads(alice: AbstractBaseUser) -> None:
    choose = random.Random(2)
    for seed in range(12):
        session = make_session(alice, seed)
        after, before, limit = choose.randint(0, 10), choose.randint(10, 45), choose.randint(1, 30)
        rows = Message.objects.transcript(session).filter(position__gt=after, position__lt=before)
        expected = [
            TranscriptMessage.of(row, from_model_turn=row.turn.kind == Turn.Kind.REPLY)
            for row in list(rows.select_related("turn"))[-limit:]
        ]
        assert statements.read_newest(session.pk, after=after, before=before, limit=limit) == expected


def make_memories(person: Person, seed: int) -> None:
    """Make memories of every status and source, with evidence from all of the owner's sessions."""
    choose = random.Random(seed)
    messages = list(Message.objects.filter(session__owner=person.owner_id))
    for number in range(60):
        memory = UserMemory.objects.create(
            person=person,
            kind="fact",
            text=f"Fact {number}",
            text_key=str(number),
            status=choose.choice(["active", "active", "active", "superseded", "forgotten"]),
            pinned=choose.random() < 0.3,
            source=choose.choice(["user", "model"]),
            valid_from=timezone.now() - timedelta(days=choose.randint(0, 5)),
        )
        for message in choose.sample(messages, choose.randint(0, 2)):
            Evidence.objects.create(memory=memory, message=message)
        if choose.random() < 0.7:
            text_key = choose.choice([memory.text_key, "of an earlier text"])
            IndexedMemory.objects.create(
                memory=memory, person=person, text_key=text_key, terms="fact", vector=b"12", model="m", dim=1
            )


@pytest.mark.django_db
@pytest.mark.parametrize("with_index", [True, False])
def test_the_facts_of_a_prompt_are_those_that_the_orm_reads(
    alice: AbstractBaseUser, bob: AbstractBaseUser, with_index: bool
) -> None:
    deleted = {"state": "deleted", "state_before": "open", "expires_at": timezone.now()}
    sessions = [make_session(alice, seed, **fields) for seed, fields in enumerate([{}, deleted, deleted])]
    ann = Person.objects.get_or_create_by_ref(alice, "ann")
    make_memories(ann, 1)
    make_session(bob, 3)
    make_memories(Person.objects.get_or_create_by_ref(bob, "ann"), 2)
    sessions[0].person = ann
    for limit in (5, 200):
        _, facts = statements.read_prompt_sources(
            sessions[0], upto=None, max_facts=limit, with_index=with_index
        )
        expected = list(UserMemory.objects.for_prompt(ann).prefetch_related("evidence")[:limit])
        assert 0 < len(expected) < UserMemory.objects.filter(person=ann, status="active").count()
        # A prompt orders them itself.
        facts.sort(key=lambda fact: fact.memory.pk)
        expected.sort(key=lambda row: row.pk)
        assert [fact.memory.pk for fact in facts] == [row.pk for row in expected]
        for fact, row in zip(facts, expected, strict=True):
            names = ("id", "key", "text", "pinned", "valid_from")
            assert columns(fact.memory) == {name: getattr(row, name) for name in names}
            assert sorted(fact.message_ids) == sorted(entry.message_id for entry in row.evidence.all())
            index_row = IndexedMemory.objects.filter(memory=row, text_key=row.text_key).first()
            assert (fact.index_entry is not None) == (with_index and index_row is not None)
            if fact.index_entry and index_row:
                pk, terms, vector, *model = fact.index_entry
                assert (pk, terms, *model) == (row.pk, index_row.terms, index_row.model, index_row.dim)
                assert bytes(vector or b"") == bytes(index_row.vector or b"")


@pytest.mark.django_db
def test_the_summary_of_a_prompt_is_the_one_that_the_orm_finds(alice: AbstractBaseUser) -> None:
    choose = random.Random(3)
    first, second = make_session(alice, 1), make_session(alice, 2)
    for session in (first, second):
        for end in range(2, 30, 3):
            stale, thread = choose.random() < 0.4, choose.choice(["", "", "other"])
            Summary.objects.create(
                session=session,
                from_position=1,
                to_position=end,
                text=f"Up to {end}",
                stale=stale,
                thread=thread,
            )
    for upto in range(32):
        expected = Summary.objects.fresh(first).filter(to_position__lte=upto).first()
        for max_facts in (0, 200):
            found, _ = statements.read_prompt_sources(first, upto=upto, max_facts=max_facts, with_index=False)
            assert found == (expected and (expected.pk, expected.to_position, expected.text))
