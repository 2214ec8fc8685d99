"""The list of all conversations, as forms: found, renamed, put away, deleted and had back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from convo import turns
from convo.history import NewMessage
from convo.models import ME, Person, Session

pytestmark = pytest.mark.django_db

LIST = "/conversations/"


@pytest.fixture(autouse=True)
def guests(settings: LazySettings) -> None:
    settings.CONVO = {**settings.CONVO, "GUESTS": True}


@pytest.fixture
def alices(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def conversation(owner: User, *texts: str, ago: timedelta = timedelta(), **fields: Any) -> Session:
    person = Person.objects.get_or_create_by_ref(owner, ME)
    session = Session.objects.create(owner=owner, person=person, agent="assistant", **fields)
    if texts:
        turns.record(session, [NewMessage(role="user", content=text) for text in texts])
    Session.objects.filter(pk=session.pk).update(last_activity=timezone.now() - ago)
    return session


def read(client: Client, address: str = LIST, status: int = 200) -> str:
    """The page without its sidebar."""
    response = client.get(address)
    assert response.status_code == status
    return response.content.decode().partition("<main")[2]


def post(client: Client, name: str, session: Session, **fields: str) -> Any:
    return client.post(reverse(name, args=[session.pk]), {"next": LIST, **fields})


def test_the_newest_come_first_under_the_names_of_their_times(alices: Client, alice: User) -> None:
    conversation(alice, title="Older", ago=timedelta(days=400))
    conversation(alice, "said first", ago=timedelta(days=3))
    conversation(alice, title="Newest")
    conversation(alice)
    page = read(alices)
    places = [page.index(text) for text in ("Today", "Newest", "The last seven days", "said first", "Older")]
    assert places == sorted(places)
    assert "New conversation" in page
    assert (timezone.localdate() - timedelta(days=400)).strftime("%B %Y") in page


def test_nobody_sees_anybody_elses(alices: Client, alice: User, bob: User) -> None:
    mine, his = conversation(alice, title="Mine"), conversation(bob, title="His")
    assert "Mine" in read(alices)
    assert "His" not in read(alices)
    for name, fields in {"rename": {"title": "x"}, "archive": {"state": "archived"}, "delete": {}}.items():
        assert post(alices, name, his, **fields).status_code == 404
        assert post(alices, name, mine, **fields).status_code == 302
    his.refresh_from_db()
    assert (his.title, his.state) == ("His", "open")
    turns.discard(his)
    assert post(alices, "undo", his).status_code == 404
    assert f"deleted={his.pk}" not in read(alices)
    assert "Deleted “" not in read(alices, f"{LIST}?deleted={his.pk}")
    assert post(alices, "undo", mine).status_code == 302


@pytest.mark.parametrize("name", ["rename", "archive", "delete", "undo"])
def test_an_act_is_a_post_and_what_is_not_there_is_not_found(alices: Client, alice: User, name: str) -> None:
    session = conversation(alice)
    assert alices.get(reverse(name, args=[session.pk])).status_code == 405
    assert alices.post(reverse(name, args=[uuid4()]), {"state": "open"}).status_code == 404
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.post(reverse(name, args=[session.pk])).status_code == 403


def test_a_page_of_many_leads_to_the_older_ones_and_back(alices: Client, alice: User) -> None:
    for number in range(1, 86):
        conversation(alice, title=f"Number {number}.", ago=timedelta(minutes=number))
    first = alices.get(LIST)
    assert [name.strip() for name in _titles(first)] == [f"Number {n}." for n in range(1, 41)]
    second = alices.get(LIST + first.context["older"])
    third = alices.get(LIST + second.context["older"])
    assert _titles(third) == [f"Number {n}." for n in range(81, 86)]
    assert third.context["older"] is None
    assert _titles(alices.get(LIST + third.context["newer"])) == _titles(second)
    assert first.context["newer"] is None


def _titles(response: Any) -> list[str]:
    return [row.title for _, rows in response.context["groups"] for row in rows]


def test_a_page_takes_as_many_queries_for_forty_as_for_one(alices: Client, alice: User) -> None:
    conversation(alice, "one")
    with CaptureQueriesContext(connection) as alone:
        read(alices)
    for number in range(50):
        conversation(alice, f"number {number}")
    with CaptureQueriesContext(connection) as many:
        assert read(alices).count('class="conversation"') == 40
    assert len(many) == len(alone)
    assert not any("COUNT(" in query["sql"] or "OFFSET" in query["sql"] for query in many.captured_queries)


def test_titles_and_first_words_are_found_all_of_them(alices: Client, alice: User) -> None:
    conversation(alice, title="A trip to Oslo")
    conversation(alice, "Which oslo hotel was it?")
    conversation(alice, "Something else", title="Else")
    page = read(alices, f"{LIST}?find=OSLO")
    assert "A trip to Oslo" in page
    assert "Which oslo hotel" in page
    assert "Something else" not in page
    assert "A trip to Oslo" not in read(alices, f"{LIST}?find=oslo+hotel")
    nothing = read(alices, f"{LIST}?find=%3Cb%3EBergen")
    assert "No such conversation" in nothing
    assert "<b>Bergen" not in nothing
    for wrong in ("x" * 201, "%00"):
        assert 'role="alert"' in read(alices, f"{LIST}?find={wrong}", status=400)
    assert "not valid" in read(alices, f"{LIST}?cursor=x", status=400)


def test_what_is_put_away_stands_under_its_own_heading(alices: Client, alice: User) -> None:
    session = conversation(alice, title="About laptops")
    assert post(alices, "archive", session, state="archived")["Location"] == LIST
    assert "About laptops" not in read(alices)
    assert "About laptops" in read(alices, f"{LIST}?state=archived")
    assert "About laptops" not in alices.get("/").content.decode()
    post(alices, "archive", session, state="open")
    assert "About laptops" in read(alices)
    assert post(alices, "archive", session, state="deleted").status_code == 400
    closed = conversation(alice, state="closed")
    post(alices, "archive", closed, state="archived")
    post(alices, "archive", closed, state="open")
    closed.refresh_from_db()
    assert closed.state == "closed"


def test_a_title_is_the_persons_from_now_on(alices: Client, alice: User) -> None:
    session = conversation(alice, "said first", title="Learned", title_turn=1)
    post(alices, "rename", session, title=" My \r\n garden ")
    session.refresh_from_db()
    assert (session.title, session.title_turn) == ("My garden", None)
    post(alices, "rename", session, title="")
    assert "said first" in read(alices)
    for wrong in ("x" * 301, "a\0b"):
        refused = post(alices, "rename", session, title=wrong)
        assert refused.status_code == 400
        assert "A title takes up to 300 characters" in refused.content.decode()
    script = alices.post(
        reverse("rename", args=[session.pk]), {"title": "x" * 301}, headers={"X-Convo-Page": "1"}
    )
    assert script.json()["error"]["param"] == "title"


@pytest.mark.parametrize("state", ["open", "archived"])
def test_what_was_deleted_is_offered_back_and_comes_back(alices: Client, alice: User, state: str) -> None:
    session = conversation(alice, title="Mira & co", state=state)
    deleted = post(alices, "delete", session, next=f"{LIST}?state={state}&find=mira")
    assert deleted["Location"] == f"{LIST}?state={state}&find=mira&deleted={session.pk}"
    page = read(alices, deleted["Location"])
    assert "Deleted “<bdi>Mira &amp; co</bdi>”" in page
    assert 'class="conversation"' not in page
    back = post(alices, "undo", session, next=deleted["Location"])
    assert back["Location"] == f"{LIST}?state={state}&find=mira"
    assert "Mira &amp; co" in read(alices, back["Location"])
    assert "Deleted “" not in read(alices, deleted["Location"])


def test_without_a_page_to_go_back_to_one_goes_on_in_the_chat(alices: Client, alice: User) -> None:
    session = conversation(alice, title="Mine")
    for next in ("", "//evil.example/", "https://evil.example/", "javascript:alert(1)", "/\\evil.example"):
        deleted = post(alices, "delete", session, next=next)
        assert deleted["Location"] == f"/?deleted={session.pk}"
        assert post(alices, "undo", session, next=next)["Location"] == f"/c/{session.pk}/"


def test_when_it_is_too_late_that_is_said(alices: Client, alice: User) -> None:
    session = conversation(alice, title="Mine")
    post(alices, "delete", session)
    Session.objects.filter(pk=session.pk).update(expires_at=timezone.now())
    assert "Deleted “" not in read(alices, f"{LIST}?deleted={session.pk}")
    late = post(alices, "undo", session)
    assert late.status_code == 404
    assert "too late to undo" in late.content.decode()


def test_a_stranger_sees_an_empty_list_and_becomes_nobody(client: Client) -> None:
    assert "No conversations yet" in read(client)
    assert "Nothing is archived" in read(client, f"{LIST}?state=archived")
    assert client.post(reverse("undo", args=[uuid4()])).status_code == 404
    assert not Person.objects.exists()


def test_without_guests_a_stranger_is_asked_to_sign_in(client: Client, settings: LazySettings) -> None:
    settings.CONVO = {**settings.CONVO, "GUESTS": False}
    for address in (LIST, "/search/?q=x"):
        assert client.get(address).status_code == 302


def test_every_page_leads_here_and_shows_titles_as_text(alices: Client, alice: User) -> None:
    conversation(alice, title="<script>alert(1)</script>")
    for address in ("/", LIST, "/search/"):
        page = alices.get(address).content.decode()
        assert f'href="{LIST}"' in page
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert page.count('id="find"') == 1


def test_the_sidebar_lists_the_newest_thirty(
    alices: Client, alice: User, django_assert_max_num_queries: Callable[..., CaptureQueriesContext]
) -> None:
    for number in range(35):
        conversation(alice, title=f"Number {number}.", ago=timedelta(minutes=number))
    with django_assert_max_num_queries(9):
        sidebar = alices.get(LIST).content.decode().partition("<main")[0]
    assert "Number 29." in sidebar
    assert "Number 30." not in sidebar
