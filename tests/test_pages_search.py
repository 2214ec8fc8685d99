"""The search page, without JavaScript: what is found is marked, with its neighbours and a link."""

from datetime import timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from convo import search, turns
from convo.history import NewMessage
from convo.models import ME, Evidence, Message, Person, Session, UserMemory
from convo.pages.search import EXCERPT_LEAD, EXCERPT_LENGTH, excerpt
from tests.support.search import index_memories

pytestmark = pytest.mark.django_db

SAID = ["Good morning.", "Mira is allergic to walnuts.", "Noted, no walnut cake then.", "And the weather?"]


@pytest.fixture(autouse=True)
def guests(settings: LazySettings) -> None:
    settings.CONVO = {**settings.CONVO, "GUESTS": True}


@pytest.fixture
def alices(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def conversation(owner: User, *texts: str, ref: str = ME, **fields: Any) -> Session:
    """Said by the user and answered by turns, and indexed."""
    session = Session.objects.create(
        owner=owner,
        person=Person.objects.get_or_create_by_ref(owner, ref),
        **{"agent": "assistant", **fields},
    )
    roles = ["user", "assistant"] * len(texts)
    drafts = [NewMessage(role=role, content=text) for role, text in zip(roles, texts, strict=False)]
    turns.record(session, drafts)
    while search.index_turns():
        pass
    return session


def results(client: Client, query: str = "walnuts", status: int = 200, **fields: Any) -> str:
    """The page without its sidebar, in the words that a reader sees."""
    response = client.get("/search/", {"q": query, **fields})
    assert response.status_code == status
    return response.content.decode().partition("<main")[2]


def test_what_was_said_is_shown_marked_with_who_where_and_when(alices: Client, alice: User) -> None:
    session = conversation(alice, *SAID, title="Sunday")
    page = results(alices, "Who is allergic to walnuts?")
    assert "Mira is <mark>allergic</mark> to <mark>walnuts</mark>." in page
    first, _, rest = page.partition("Good morning.")
    assert "Sunday" in first
    assert f'href="/c/{session.pk}/?at=2#m2"' in page
    assert f'href="/c/{session.pk}/?at=3#m3"' in page
    assert "You" in rest
    assert "Assistant" in rest
    assert timezone.now().strftime("%b %Y") in page
    assert 'value="Who is allergic to walnuts?"' in page


def test_nobody_finds_what_another_one_said(alices: Client, alice: User, bob: User) -> None:
    conversation(alice, *SAID)
    conversation(alice, "Walnuts, said an end user.", ref="customer")
    theirs = conversation(bob, "Bob has walnuts.")
    page = results(alices)
    assert "<mark>walnuts</mark>" in page
    assert "Bob" not in page
    assert "end user" not in page
    assert results(alices, session=theirs.pk, status=404)
    assert "Bob" in results(_client(bob))


def _client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_markup_in_what_is_found_and_in_what_is_asked_is_text(alices: Client, alice: User) -> None:
    conversation(
        alice, "<img src=x onerror=alert(1)> walnuts <mark>x</mark>", "Said </p><script>", title="<b>T"
    )
    page = results(alices, '"><script>walnuts</script>')
    assert "<mark>walnuts</mark>" in page
    assert "&lt;mark&gt;x&lt;/mark&gt;" in page
    for markup in ("<img src=x", "<script>walnuts", "</p><script>", "<b>T"):
        assert markup not in page
        assert markup in unescape(page)


def test_agent_day_and_conversation_narrow_it_down(alices: Client, alice: User) -> None:
    mine = conversation(alice, "I like walnuts.", title="One")
    old = conversation(alice, "I liked walnuts long ago.", title="Two")
    Message.objects.filter(session=old).update(created_at=timezone.now() - timedelta(days=30))
    conversation(alice, "The writer likes walnuts.", agent="coder", title="Three")
    everywhere = results(alices)
    for text in ("I like ", "I liked ", "The writer"):
        assert text in everywhere
    inside = results(alices, session=mine.pk)
    assert "I like " in inside
    assert "I liked " not in inside
    assert "In <bdi>One</bdi>" in inside
    since = results(alices, after=str(timezone.now().date() - timedelta(days=2)))
    assert "I like " in since
    assert "I liked " not in since
    answered = results(alices, agent="assistant")
    assert "I like " in answered
    assert "The writer" not in answered
    assert "Nothing within these limits" in results(alices, after="2999-01-01")


def test_what_is_known_and_how_conversations_are_called_is_found_as_well(alices: Client, alice: User) -> None:
    session = conversation(alice, *SAID)
    called = conversation(alice, "Else", title="Walnuts and other nuts")
    Session.objects.filter(pk=called.pk).change(state="archived")
    memory = UserMemory.objects.create(
        person=session.person,
        kind="diet",
        text="Has a sister who eats no walnuts.",
        text_key="k",
        source="model",
    )
    Evidence.objects.create(memory=memory, message=Message.objects.transcript(session)[1])
    index_memories()
    page = results(alices)
    assert "Has a sister who eats no walnuts." in page
    assert "Walnuts and other nuts" in page
    narrowed = results(alices, session=session.pk)
    assert "Has a sister" not in narrowed
    turns.discard(session)
    assert "Has a sister" not in results(alices)
    assert "<mark>walnuts</mark>" not in results(alices)


def test_more_is_a_link_away(alices: Client, alice: User) -> None:
    conversation(alice, *[f"Walnuts, number {number}." for number in range(25)])
    first = results(alices)
    assert first.count('class="hit"') == 10
    assert 'href="?q=walnuts&amp;first=20#hit-11"' in first
    assert results(alices, first=20).count('class="hit"') == 20
    last = results(alices, first=30)
    assert last.count('class="hit"') == 25
    assert "More" not in last


@pytest.mark.parametrize(
    "fields",
    [
        {"query": "x" * 1001},
        {"query": "a\0b"},
        {"agent": "nobody"},
        {"after": "yesterday"},
        {"session": "no-uuid"},
        {"first": "0"},
        {"first": "101"},
    ],
)
def test_what_makes_no_sense_is_told_in_words(alices: Client, alice: User, fields: dict[str, str]) -> None:
    conversation(alice, *SAID)
    page = results(alices, status=400, **fields)
    assert 'role="alert"' in page
    assert 'class="hit"' not in page


def test_an_unknown_conversation_is_not_there(alices: Client) -> None:
    results(alices, session=uuid4(), status=404)


@pytest.mark.parametrize("query", ["", "   "])
def test_without_a_question_the_page_says_what_can_be_asked(alices: Client, alice: User, query: str) -> None:
    conversation(alice, *SAID)
    assert "Everything you said" in results(alices, query)


def test_where_nothing_is_found_the_page_says_so_to_a_newcomer_too(client: Client, alice: User) -> None:
    assert "Nothing was said about that" in results(client)
    assert not Person.objects.exists()
    conversation(alice, *SAID)
    assert "Nothing was said about that" in results(_client(alice), "zeppelin")


def test_a_session_that_is_not_kept_is_not_searched_and_the_page_says_why(
    alices: Client, alice: User
) -> None:
    ephemeral = conversation(alice, *SAID)
    Session.objects.filter(pk=ephemeral.pk).update(storage="none")
    assert "cannot be searched" in results(alices, session=ephemeral.pk, status=400)


def test_ten_results_take_as_many_queries_as_one(alices: Client, alice: User) -> None:
    conversation(alice, "Walnuts once.")
    results(alices)
    with CaptureQueriesContext(connection) as alone:
        assert results(alices).count('class="hit"') == 1
    for number in range(12):
        conversation(alice, f"Walnuts again, {number}.")
    results(alices)
    with CaptureQueriesContext(connection) as many:
        assert results(alices).count('class="hit"') == 10
    assert len(many) == len(alone) <= 16


def _cut(text: str, word: str) -> tuple[str, list[str]]:
    places, at = [], text.find(word)
    while at >= 0:
        places.append((at, at + len(word)))
        at = text.find(word, at + 1)
    found = list(excerpt(text, places))
    return "".join(piece.text for piece in found), [piece.text for piece in found if piece.is_highlighted]


def test_of_a_long_message_the_part_with_most_of_it_is_shown() -> None:
    text = "lorem " * 100 + "one walnut here " + "ipsum " * 100 + "two walnut walnut there " + "dolor " * 100
    shown, marked = _cut(text, "walnut")
    assert marked == ["walnut", "walnut"]
    assert shown.startswith("… ipsum ")
    assert shown.endswith(" dolor …")
    assert "two walnut walnut there" in shown
    assert len(shown) <= EXCERPT_LENGTH + 4
    assert shown.index("walnut") <= EXCERPT_LEAD + 3


@pytest.mark.parametrize(
    "text", ["", "walnut", "a walnut.", "x" * 2000, "核桃" * 500, " " * 900 + "walnut" + " " * 900]
)
def test_any_text_is_cut_without_harm(text: str) -> None:
    for word in ("walnut", "核桃", "zzz"):
        shown, marked = _cut(text, word)
        assert len(shown) <= max(len(text), EXCERPT_LENGTH + 4)
        assert bool(marked) == (word in text)
        assert shown.removeprefix("… ").removesuffix(" …") in text
