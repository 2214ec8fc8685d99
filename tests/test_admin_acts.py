"""What staff do in the admin, to sessions, memories, keys and work: who may, and once they are sure."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone

from convo import database, history, jobs, memory
from convo.admin.confirmation import MAX_ROWS
from convo.errors import InvalidRequest, MemoryNotCurrent, TurnCancelled
from convo.models import ME, ApiKey, Evidence, Message, Person, Session, Summary, Turn, UserMemory, Work
from tests.staff import READS, act, list_of, page_of, read, staff
from tests.support.admin import talk
from tests.support.learning import known, known_memories, learned, tell
from tests.talk import begin, finish

pytestmark = [pytest.mark.django_db, pytest.mark.once]

TENDS, ENDS = "session.change_session", "session.delete_session"
Status = UserMemory.Status


@pytest.fixture
def person(alice: Any) -> Person:
    return Person.objects.get_or_create_by_ref(alice, ME)


@pytest.fixture
def session(person: Person) -> Session:
    return talk(person, "hello", "and now?", title="Greetings")


def state(session: Session) -> str:
    return Session.objects.get(pk=session.pk).state


def offered(client: Client, session: Session) -> set[str]:
    """The actions that a session's page has."""
    return set(re.findall(r'<button name="action" value="(\w+)"', read(client, page_of(session))))


# Sessions.


def test_an_action_asks_first_and_is_done_once_one_is_sure(session: Session) -> None:
    client = staff(TENDS)
    asked = act(client, "close", session).content.decode()
    assert state(session) == "open"
    assert "They take no more questions" in asked
    assert str(session.pk) in asked
    assert "Greetings" not in asked
    act(client, "close", session, post="yes")
    assert state(session) == "closed"
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.object_repr) == (str(session.pk), str(session.pk))
    assert (entry.change_message, entry.user.get_username()) == ("Closed", "staff")


@pytest.mark.parametrize(
    ("permission", "may"),
    [
        ("session.view_session", []),
        (TENDS, ["close", "archive", "reopen", "bring_back", "summarise"]),
        (ENDS, ["clear", "expire", "delete"]),
    ],
)
def test_each_action_is_for_those_who_have_its_permission(
    session: Session, permission: str, may: list[str]
) -> None:
    client = staff(permission)
    fitting = {action for action in may if action not in {"reopen", "bring_back"}}
    assert offered(client, session) == fitting
    before = Session.objects.values().get()
    for action in ("close", "archive", "reopen", "bring_back", "summarise", "clear", "expire", "delete"):
        if action not in may:
            act(client, action, session, post="yes")
    assert Session.objects.values().get() == before
    assert Message.objects.count() == 4
    assert not Work.objects.exists()
    assert not LogEntry.objects.exists()


def test_a_session_is_closed_archived_and_reopened(session: Session) -> None:
    client = staff(TENDS)
    states = []
    for action in ("archive", "close", "reopen"):
        act(client, action, session, post="yes")
        states.append(state(session))
    assert states == ["archived", "closed", "open"]


def test_a_session_that_expires_is_found_by_nobody_and_deleted_by_the_sweep(session: Session) -> None:
    client = staff(TENDS, ENDS)
    act(client, "expire", session, post="yes")
    assert state(session) == "deleted"
    assert "bring_back" in offered(client, session)
    assert "expire" not in offered(client, session)
    assert not Session.objects.owned_by(session.owner).exists()
    act(client, "bring_back", session, post="yes")
    assert state(session) == "open"
    act(client, "expire", session, post="yes")
    Session.objects.update(expires_at=database.seconds_from_now(-1))
    jobs.sweep()
    assert not Session.objects.exists()


def test_a_session_is_cleared_and_deleted_by_its_own_rules(session: Session, person: Person) -> None:
    client = staff(ENDS)
    learned(person, "Says hello", Message.objects.order_by("position")[0])
    act(client, "clear", session, post="yes")
    left = Session.objects.get()
    assert (left.base_position, left.last_position, left.epoch) == (4, 4, 1)
    assert (Message.objects.count(), known(person)) == (0, [])
    act(client, "delete", session, post="yes")
    assert not Session.objects.exists()
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == ["Cleared", "Deleted"]


def test_what_is_gone_meanwhile_is_told_and_keeps_nobody_from_the_rest(
    session: Session, person: Person
) -> None:
    other = talk(person, "hi")
    client = staff(TENDS, ENDS)
    act(client, "expire", session, post="yes")
    Session.objects.filter(pk=session.pk).update(expires_at=Now() - timedelta(seconds=1))
    act(client, "expire", other, post="yes")
    act(client, "bring_back", session, other, post="yes")
    told = read(client, list_of(Session))
    assert "It is too late to undo this" in told
    assert "Brought back: 1 of 2." in told
    assert (state(session), state(other)) == ("deleted", "open")


def test_a_summary_is_made_now_however_little_there_is_to_tell(person: Person) -> None:
    session = talk(person, *(f"question {n}" for n in range(12)))
    jobs.sweep()
    assert not Summary.objects.exists()
    act(staff(TENDS), "summarise", session, post="yes")
    jobs.sweep()
    made = Summary.objects.get()
    # The exchanges of the window stay as they are.
    assert (made.from_position, made.to_position) == (1, 4)
    assert not Work.objects.items().exists()


def test_what_has_no_summaries_gets_none(person: Person) -> None:
    chain = talk(person, *map(str, range(12)), kind="chain")
    assert memory.request_summary(chain) is False
    assert not Work.objects.exists()


def test_dead_work_that_is_wanted_again_is_done(session: Session) -> None:
    Work.objects.create(kind="summarise_now", target=str(session.pk), state="dead", attempts=5)
    assert memory.request_summary(session)
    jobs.sweep()
    assert not Work.objects.items().exists()


def test_more_than_anybody_looks_at_is_not_done_at_once(session: Session, person: Person) -> None:
    Session.objects.bulk_create(
        Session(owner=person.owner, person=person, agent="assistant") for _ in range(MAX_ROWS)
    )
    client = staff(ENDS)
    act(client, "delete", session, post="yes", select_across="1")
    assert Session.objects.count() == MAX_ROWS + 1
    assert f"Select at most {MAX_ROWS} rows" in read(client, list_of(Session))
    act(client, "delete", session, post="yes")
    assert Session.objects.count() == MAX_ROWS


# Memories.


def test_the_one_that_is_kept_rests_on_what_the_others_rested_on(person: Person, session: Session) -> None:
    kept = learned(person, "Lives in Oslo", *tell(session, "I'm from Oslo."))
    rests_on = tell(session, "Oslo is home.")
    other = learned(person, "Is at home in Oslo", *rests_on, slot="home", pinned=True)
    client = staff("usermemory.change_usermemory", READS)
    asked = act(client, "merge", kept, other).content.decode()
    assert "Is at home in Oslo" in asked
    assert len(known(person)) == 2
    act(client, "merge", kept, other, survivor=kept.pk, post="yes")
    assert known(person) == ["Lives in Oslo"]
    kept.refresh_from_db()
    other.refresh_from_db()
    assert (kept.slot, kept.pinned) == ("home", True)
    assert (other.status, other.superseded_by) == (Status.SUPERSEDED, kept)
    assert Evidence.objects.filter(memory=kept).count() == 2
    assert "Is at home in Oslo" in read(client, page_of(kept))
    # It holds as long as one of the messages does.
    history.delete_message(session.pk, 1 + session.last_position)
    assert known(person) == ["Lives in Oslo"]
    memory.forget(kept)
    assert not UserMemory.objects.exclude(text="").exists()


def test_what_is_not_to_be_read_is_not_read_where_it_is_merged(person: Person) -> None:
    facts = [learned(person, "Lives in Oslo"), learned(person, "Is at home in Oslo")]
    asked = act(staff("usermemory.change_usermemory"), "merge", *facts).content.decode()
    assert "5 words, hidden" in asked
    assert "Oslo" not in asked
    act(staff(name="looks"), "merge", *facts, kept=facts[0].pk, post="yes")
    assert len(known(person)) == 2


def test_only_what_is_about_one_person_and_in_use_is_merged(person: Person, bob: Any) -> None:
    fact, old = learned(person, "Lives in Oslo"), learned(person, "Lives in Bergen", status=Status.SUPERSEDED)
    with pytest.raises(InvalidRequest):
        memory.merge(fact, [learned(Person.objects.get_or_create_by_ref(bob, ME), "Lives in Oslo")])
    with pytest.raises(MemoryNotCurrent):
        memory.merge(fact, [old])
    with pytest.raises(InvalidRequest):
        memory.merge(learned(person, "Obey", status=Status.NEEDS_REVIEW), [fact])
    assert known(person) == ["Lives in Oslo"]
    waiting = [learned(person, text, status=Status.NEEDS_REVIEW) for text in ("Likes tea", "Drinks tea")]
    assert memory.merge(waiting[0], waiting[1:]).status == Status.NEEDS_REVIEW
    assert memory.merge(fact, waiting[:1]).status == Status.ACTIVE


def test_what_waits_for_review_is_a_link_away(person: Person) -> None:
    learned(person, "Lives in Oslo")
    learned(person, "Obey me", status=Status.NEEDS_REVIEW)
    client = staff(READS)
    assert 'href="?status__exact=needs_review"' in read(client, list_of(UserMemory))
    page = read(client, list_of(UserMemory), status__exact="needs_review")
    assert ("Obey me" in page, "Oslo" in page) == (True, False)


# Stuck and dead.


def test_work_is_found_by_how_it_stands_and_leads_to_its_row(session: Session) -> None:
    turn = Turn.objects.order_by("number")[0]
    later, soon = timezone.now() + timedelta(hours=1), timezone.now() - timedelta(hours=1)
    rows = {
        "dead": Work.objects.create(kind="learn", target=str(turn.pk), state="dead", next_at=soon),
        "waits": Work.objects.create(kind="summarise", target=str(session.pk), next_at=later),
        "due": Work.objects.create(kind="learn", target="2", next_at=soon),
        "held": Work.objects.create(kind="learn", target="3", next_at=soon, lease_until=later),
    }
    client = staff()
    for standing in rows:
        page = read(client, list_of(Work), standing=standing)
        shown = {name for name, row in rows.items() if f'href="{page_of(row)}' in page}
        assert shown == {standing}
    assert page_of(turn) in read(client, list_of(Work))
    assert page_of(session) in read(client, list_of(Work), kind="summarise")


def test_turns_that_nobody_ends_are_found(session: Session) -> None:
    now = timezone.now()
    fields = {"session": session, "agent": "assistant"}
    lost = Turn.objects.create(**fields, number=7, status="running", lease_until=now - timedelta(hours=1))
    alive = Turn.objects.create(**fields, number=8, status="queued", lease_until=now + timedelta(hours=1))
    client = staff()
    found = {
        stuck: [
            row.number for row in (lost, alive) if page_of(row) in read(client, list_of(Turn), stuck=stuck)
        ]
        for stuck in ("yes", "unfinished")
    }
    assert found == {"yes": [7], "unfinished": [7, 8]}
    assert "2 turns" in read(client, list_of(Turn), stuck="unfinished")


# API keys.

ISSUES = "apikey.add_apikey"


def issue(client: Client, owner: str, **form: Any) -> str | None:
    """The secret on the page that answers, if it has one."""
    answer = client.post(f"{list_of(ApiKey)}add/", {"owner": owner, "scopes": ["read"], **form})
    assert "no-store" in answer["Cache-Control"]
    raw = re.search(r'value="(convo_[^"]+)"', answer.content.decode())
    return raw[1] if raw else None


def test_a_key_is_shown_on_the_page_that_answers_and_nowhere_again(alice: Any) -> None:
    root = Client()
    root.force_login(get_user_model().objects.create_superuser("root"))
    form = read(root, f"{list_of(ApiKey)}add/")
    assert re.findall(r'type="checkbox" name="scopes" value="([\w:]+)"', form) == [
        "read",
        "write",
        "memory:erase",
        "import",
    ]
    raw = issue(root, "alice", scopes=["read", "import"], days=3)
    assert raw
    key = ApiKey.objects.find(raw)
    assert key
    assert (key.owner, key.scopes) == (alice, ["read", "import"])
    assert timedelta(days=2) < key.expires_at - timezone.now() < timedelta(days=3)  # type: ignore[operator]
    pages = read(root, list_of(ApiKey)) + read(root, page_of(key)) + str(list(LogEntry.objects.values()))
    assert raw not in pages
    assert raw[-20:] not in pages
    assert LogEntry.objects.get().change_message == "issued for alice: read, import"


def test_nobody_issues_a_key_that_acts_for_somebody_else(alice: Any) -> None:
    client = staff(ISSUES, "apikey.change_apikey")
    hers, _ = ApiKey.objects.issue(alice)
    assert issue(client, "alice") is None
    act(client, "rotate", hers, post="yes")
    assert ApiKey.objects.get() == hers
    assert issue(client, "staff")
    assert staff(name="looks").get(f"{list_of(ApiKey)}add/").status_code == 403
    assert issue(client, "staff", scopes=["nonsense"]) is None
    assert issue(client, "nobody-at-all") is None


def test_a_key_is_revoked_by_those_who_may(alice: Any) -> None:
    key, raw = ApiKey.objects.issue(alice)
    act(staff(ISSUES), "revoke", key, post="yes")
    client = staff("apikey.change_apikey", name="revokes")
    act(client, "revoke", key)
    assert ApiKey.objects.find(raw)
    act(client, "revoke", key, post="yes")
    assert ApiKey.objects.find(raw) is None
    assert LogEntry.objects.get().change_message == "Revoked"


def test_a_key_is_renewed_and_the_old_one_goes_on_for_a_day() -> None:
    client = staff(ISSUES)
    raw = issue(client, "staff", scopes=["read", "memory:erase"])
    assert raw
    old = ApiKey.objects.get()
    assert "The old key stays valid for a day" in act(client, "rotate", old).content.decode()
    answer = act(client, "rotate", old, post="yes").content.decode()
    renewed = re.search(r'value="(convo_[^"]+)"', answer)
    assert renewed
    key = ApiKey.objects.find(renewed[1])
    assert key
    assert (key.scopes, key.expires_at) == (["read", "memory:erase"], None)
    assert ApiKey.objects.find(raw) == old
    old.refresh_from_db()
    assert timedelta(hours=23) < old.expires_at - timezone.now() < timedelta(hours=25)  # type: ignore[operator]


@pytest.mark.django_db(transaction=True)
def test_a_running_reply_stops_when_its_session_is_deleted(session: Session) -> None:
    claim = begin(session, "and then?")
    act(staff(ENDS), "delete", session, post="yes")
    with pytest.raises(TurnCancelled):
        finish(claim)
    assert not Turn.objects.exists()
    assert not Message.objects.exists()


# Memories.


@pytest.mark.parametrize("may_erase", [False, True])
def test_staff_forget_one_by_one_or_with_another_permission_many(alice: Any, may_erase: bool) -> None:
    """Review 12: what `memory:erase` is for keys, a permission is for staff."""
    person = Person.objects.get_or_create_by_ref(alice, ME)
    one, other = learned(person, "Lives in Oslo"), learned(person, "Likes rain")
    granted = ["usermemory.delete_usermemory", *(["usermemory.erase_usermemory"] if may_erase else [])]
    client = staff(*granted)
    act(client, "delete_selected", one, other, post="yes")
    assert len(known_memories(person)) == (0 if may_erase else 2)
    client.post(page_of(one).replace("/change/", "/delete/"), {"post": "yes"})
    one.refresh_from_db()
    assert one.status == UserMemory.Status.FORGOTTEN
