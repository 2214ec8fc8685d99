"""The chat page as a browser without JavaScript meets it: forms, redirects, and words when it can't."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from convo import history, turns
from convo.history import NewMessage
from convo.models import Feedback, Message, Session, Turn
from tests.support.pages import conversation, read, told
from tests.talk import finish
from tests.upstream import Upstream

# Turns run on threads of their own, which see only what is committed.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

OPENING, FOLLOW_UP = "I carry the Zephyr 14 every day.", "Which laptop do I carry?"
# What the page's own script sends along.
SCRIPT = {"X-Convo-Page": "1"}
SMALL = "default: brief\nagents:\n  brief:\n    context_tokens: 100\n"

Configure = Callable[..., None]


@pytest.fixture(autouse=True)
def configure(settings: LazySettings) -> Configure:
    """Changes keys of settings.CONVO; guests are welcome from the start."""

    def change(**keys: object) -> None:
        settings.CONVO = {**settings.CONVO, **keys}

    change(GUESTS=True, OFFLINE_WORD_SECONDS=0)
    return change


def url(session: Session) -> str:
    return reverse("conversation", args=[session.pk])


def test_looking_makes_nobody_and_the_first_message_makes_a_guest(client: Client) -> None:
    read(client, "/")
    assert not get_user_model().objects.exists()
    client.post("/", {"message": OPENING})
    guest = get_user_model().objects.get()
    assert guest.get_username().startswith("guest-")
    assert not guest.has_usable_password()
    assert Session.objects.owned_by(guest).count() == 1


def test_a_guest_stays_the_same_one(client: Client) -> None:
    client.post("/", {"message": OPENING})
    client.post("/", {"message": OPENING})
    assert Session.objects.owned_by(get_user_model().objects.get()).count() == 2


def test_a_posted_message_leads_to_the_page_with_its_reply(client: Client) -> None:
    page = client.post("/", {"message": OPENING}, follow=True)
    session = Session.objects.get()
    assert page.redirect_chain == [(f"{url(session)}#end", 302)]
    reply = session.messages.get(role="assistant").content
    assert OPENING in page.content.decode()
    for line in reply.splitlines():
        assert line in page.content.decode().replace("&quot;", '"')
    assert "offline answer: no model configured" in page.content.decode()


def test_a_follow_up_is_answered_from_what_was_said(client: Client) -> None:
    first = client.post("/", {"message": OPENING})
    page = client.post(first["Location"], {"message": FOLLOW_UP}, follow=True)
    assert f"“{OPENING}”" in page.content.decode()


def test_under_a_reply_stands_what_the_model_saw(client: Client) -> None:
    first = client.post("/", {"message": OPENING})
    page = client.post(first["Location"], {"message": FOLLOW_UP}, follow=True).content.decode()
    turn = Turn.objects.get(number=2)
    assert turn.manifest
    assert f"{turn.manifest['total']} of 16,000 tokens" in page
    address = reverse("inspect", args=[turn.session_id, 2])
    assert f'href="{address}"' in page
    seen = read(client, address).partition("<main")[2]
    for part in turn.manifest["parts"]:
        assert f'class="part {part["part"]}"' in page
        assert f'<span class="tokens">{part["tokens"]}</span>' in seen
        assert part["why"] in seen
    # Each part is open to its sources.
    assert seen.count(escape(OPENING)) == 1
    assert seen.count(escape(FOLLOW_UP)) == 1
    assert "Nothing was left out." in seen


def test_what_was_left_out_is_told_with_its_reason(
    client: Client, configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "agents.yaml").write_text(
        "default: brief\nagents:\n  brief:\n    window_pairs: 1\n    summaries: false\n"
    )
    configure(AGENTS_FILE=str(tmp_path / "agents.yaml"))
    first = client.post("/", {"message": OPENING})
    for _ in range(2):
        client.post(first["Location"], {"message": FOLLOW_UP})
    turn = Turn.objects.get(number=3)
    assert turn.manifest
    assert len(turn.manifest["left_out"]) == 1
    seen = read(client, reverse("inspect", args=[turn.session_id, 3]))
    assert "Nothing was left out." not in seen
    assert turn.manifest["left_out"][0]["why"] in seen.partition("Left out")[2]


def test_the_account_is_its_owners_alone(client: Client, bob: User) -> None:
    client.post("/", {"message": OPENING})
    address = reverse("inspect", args=[Session.objects.get().pk, 1])
    read(client, address)
    client.force_login(bob)
    read(client, address, status=404)


def test_text_is_shown_as_text(client: Client) -> None:
    page = client.post("/", {"message": "<script>alert(1)</script>"}, follow=True).content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page


def test_line_ends_are_stored_as_one_character(client: Client) -> None:
    client.post("/", {"message": "one\r\ntwo"})
    assert Message.objects.get(role="user").content == "one\ntwo"


def test_a_conversation_of_mine_is_shown_to_me_alone(client: Client, alice: User, bob: User) -> None:
    session = conversation(alice, title="My garden")
    client.force_login(alice)
    assert "My garden" in read(client, url(session))
    client.force_login(bob)
    foreign = read(client, url(session), status=404)
    assert foreign == read(client, reverse("conversation", args=[uuid4()]), status=404)
    assert foreign == read(client, "/c/no-uuid/", status=404)
    assert "recall" in foreign
    assert "My garden" not in read(client, "/")


@pytest.mark.parametrize("name", ["conversation", "clear"])
def test_nobody_writes_in_a_conversation_of_mine(client: Client, alice: User, bob: User, name: str) -> None:
    session = conversation(alice)
    told(session, 1)
    address = reverse(name, args=[session.pk])
    client.force_login(bob)
    assert client.post(address, {"message": "me too"}).status_code == 404
    assert [row.content for row in session.messages.all()] == ["message 1"]
    client.force_login(alice)
    assert client.post(address, {"message": "me too"}).status_code == 302


def test_a_stranger_at_an_unknown_address_becomes_no_guest(client: Client) -> None:
    assert client.post(reverse("conversation", args=[uuid4()]), {"message": "hello"}).status_code == 404
    assert not get_user_model().objects.exists()


def test_a_form_without_its_token_is_refused() -> None:
    strict = Client(enforce_csrf_checks=True)
    page = strict.get("/")
    refused = strict.post("/", {"message": OPENING})
    assert refused.status_code == 403
    assert "out of date" in refused.content.decode()
    assert not Session.objects.exists()
    token = page.context["csrf_token"]
    assert strict.post("/", {"message": OPENING, "csrfmiddlewaretoken": token}).status_code == 302


def test_a_message_that_is_too_long_stays_in_the_box(
    client: Client, configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "agents.yaml").write_text(SMALL)
    configure(AGENTS_FILE=str(tmp_path / "agents.yaml"))
    long = "walnuts " * 200
    refused = client.post("/", {"message": long})
    assert refused.status_code == 413
    assert "Shorten the message" in refused.content.decode()
    assert f">{long}</textarea>" in refused.content.decode()
    # A conversation begins with its first question, or not at all.
    assert not Session.objects.exists()
    assert client.post("/", {"message": "walnuts"}).status_code == 302


def test_a_message_beside_a_running_turn_stays_in_the_box(client: Client, alice: User) -> None:
    session = conversation(alice)
    turns.begin(session, [NewMessage(role="user", content=OPENING)])
    client.force_login(alice)
    refused = client.post(url(session), {"message": "And the Atlas 15?"})
    assert refused.status_code == 409
    assert ">And the Atlas 15?</textarea>" in refused.content.decode()
    assert "Still being written" in refused.content.decode()


@pytest.mark.parametrize("message", ["", " \r\n ", "a\0b"])
def test_what_is_no_message_is_told_in_words(client: Client, message: str) -> None:
    refused = client.post("/", {"message": message})
    assert refused.status_code == 400
    assert 'role="alert"' in refused.content.decode()
    assert not Session.objects.exists()


def test_a_script_is_refused_in_the_envelope_with_a_fresh_token(client: Client) -> None:
    refused = client.post("/", {"message": ""}, headers=SCRIPT)
    assert refused.json()["error"]["message"] == "Write a message first."
    assert refused["X-CSRFToken"]


def test_a_failed_reply_is_told_and_can_be_asked_again(
    client: Client, configure: Configure, upstream: Upstream
) -> None:
    configure(OPENAI_BASE_URL=upstream.url, MODEL="500")
    page = client.post("/", {"message": OPENING}, follow=True).content.decode()
    assert "No reply." in page
    session = Session.objects.get()
    again = reverse("again", args=[session.pk, 1])
    assert f'formaction="{again}">Try again' in page
    configure(MODEL="echo")
    page = client.post(again, follow=True).content.decode()
    assert f"user: {OPENING}" in page
    assert '">Try again' not in page.partition("<main")[2].partition("</main>")[0]
    # It was asked once.
    assert session.messages.filter(role="user").count() == 1


def test_a_reply_that_broke_off_is_marked(client: Client, configure: Configure, upstream: Upstream) -> None:
    configure(OPENAI_BASE_URL=upstream.url, MODEL="silent-end")
    page = client.post("/", {"message": OPENING}, follow=True).content.decode()
    assert "one two" in page
    assert "Not the whole reply." in page


def test_older_messages_are_a_link_away(client: Client, alice: User) -> None:
    session = conversation(alice)
    told(session, 60)
    client.force_login(alice)
    newest = read(client, url(session))
    assert ">message 60<" in newest
    assert ">message 10<" not in newest
    assert 'href="?before=11" rel="prev"' in newest
    earlier = read(client, f"{url(session)}?before=11")
    assert ">message 10<" in earlier
    assert ">message 1<" in earlier
    assert 'rel="prev"' not in earlier
    assert "Newest messages" in earlier


@pytest.mark.parametrize("before", ["x", "-1", "9" * 30, "１２"])
def test_a_position_that_is_none_is_a_page_that_is_not_there(
    client: Client, alice: User, before: str
) -> None:
    session = conversation(alice)
    client.force_login(alice)
    read(client, f"{url(session)}?before={before}", status=404)


def test_the_list_shows_titles_and_else_first_words_in_as_many_queries_for_many_as_for_one(
    client: Client, alice: User, django_assert_num_queries: Callable[[int], CaptureQueriesContext]
) -> None:
    told(conversation(alice), 2)
    client.force_login(alice)
    with CaptureQueriesContext(connection) as alone:
        assert "message 1" in read(client, "/")
    for _ in range(9):
        told(conversation(alice), 2)
    conversation(alice, title="About laptops")
    with django_assert_num_queries(len(alone)):
        page = read(client, "/")
    assert page.count("message 1") == 10
    assert "About laptops" in page


def test_clearing_keeps_the_conversation(client: Client, alice: User) -> None:
    session = conversation(alice)
    told(session, 3)
    client.force_login(alice)
    assert client.get(reverse("clear", args=[session.pk])).status_code == 405
    client.post(reverse("clear", args=[session.pk]))
    assert not session.messages.exists()
    assert "message 1" not in read(client, url(session))


def test_a_conversation_that_is_not_open_takes_no_message(client: Client, alice: User) -> None:
    session = conversation(alice, state="archived")
    client.force_login(alice)
    assert "takes no new messages" in read(client, url(session))
    assert client.post(url(session), {"message": OPENING}).status_code == 409
    assert not history.page(session, newest_first=False, size=1).messages


def test_without_guests_a_stranger_is_asked_to_sign_in(
    client: Client, configure: Configure, alice: User
) -> None:
    configure(GUESTS=False)
    for response in (client.get("/"), client.post("/", {"message": OPENING})):
        assert response["Location"] == "/sign-in/?next=/"
    told_off = client.post("/", {"message": OPENING}, headers=SCRIPT)
    assert told_off.status_code == 401
    assert get_user_model().objects.count() == 1
    client.force_login(alice)
    read(client, "/")


def test_only_staff_are_shown_the_way_to_the_admin(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert 'href="/admin/"' not in read(client, "/")
    client.force_login(get_user_model().objects.create_user("root", is_staff=True))
    assert 'href="/admin/"' in read(client, "/")


def test_no_page_holds_what_a_strict_content_policy_forbids(client: Client) -> None:
    page = client.post("/", {"message": OPENING}, follow=True).content.decode()
    for html in (page, read(client, "/"), read(client, "/c/nothing/", status=404)):
        assert "style=" not in html
        assert "<style" not in html
        assert "onclick" not in html
        assert "<script>" not in html
        assert "://" not in html.replace("http://www.w3.org/2000/svg", "")


@pytest.fixture
def asked(alice: User, client: Client) -> Session:
    """Alice's conversation of two turns; the client is hers."""
    client.force_login(alice)
    first = client.post("/", {"message": OPENING})
    client.post(first["Location"], {"message": FOLLOW_UP})
    return Session.objects.get()


def do(client: Client, name: str, session: Session, *place: int, **form: str) -> str:
    """The page to which this act leads."""
    page = client.post(reverse(name, args=[session.pk, *place]), form, follow=True)
    assert page.status_code == 200
    return page.content.decode()


def test_another_answer_stands_beside_the_first_and_either_can_be_chosen(
    client: Client, asked: Session
) -> None:
    page = do(client, "again", asked, 2)
    assert 'id="turn-3"' in page
    assert 'id="turn-2"' not in page
    assert page.count(escape(FOLLOW_UP)) == 2  # the question, and the box to edit it
    assert f'formaction="{reverse("choose", args=[asked.pk, 2])}"' in page
    page = do(client, "choose", asked, 2)
    assert 'id="turn-2"' in page
    assert f'formaction="{reverse("choose", args=[asked.pk, 3])}"' in page


def test_a_page_that_is_read_while_another_answer_ends_shows_it_or_follows_it(
    client: Client, asked: Session
) -> None:
    claim = turns.regenerate(asked, 2)
    has_ended = False

    def end_after_the_first_read(execute: Callable[..., Any], sql: str, *others: Any) -> Any:
        nonlocal has_ended
        result = execute(sql, *others)
        if not has_ended and sql.startswith(('SELECT "convo_turn"', 'SELECT "convo_message"')):
            has_ended = True
            finish(claim)
        return result

    with connection.execute_wrapper(end_after_the_first_read):
        page = read(client, url(asked))
    assert has_ended
    assert 'id="turn-3"' in page
    assert 'id="turn-2"' not in page


def test_another_answer_that_waits_in_the_queue_is_shown_until_it_is_cleared_away(
    client: Client, asked: Session
) -> None:
    claim = turns.regenerate(asked, 2)
    Turn.objects.filter(pk=claim.turn.pk).update(status=Turn.Status.QUEUED)
    assert 'id="turn-3"' in read(client, url(asked))
    # What a clear leaves for a moment is not shown as an empty reply.
    Message.objects.filter(session=asked).delete()
    assert 'id="turn-3"' not in read(client, url(asked))


def test_an_edited_question_takes_the_place_of_the_old_one(client: Client, asked: Session) -> None:
    page = do(client, "edit", asked, 1, message="I carry the Atlas 15.")
    assert "I carry the Atlas 15." in page
    assert FOLLOW_UP not in page
    assert escape(FOLLOW_UP) in do(client, "choose", asked, 1)


def test_an_edited_question_that_says_nothing_is_refused(client: Client, asked: Session) -> None:
    refused = client.post(reverse("edit", args=[asked.pk, 1]), {"message": " "})
    assert refused.status_code == 400
    assert "Write a message first." in refused.content.decode()


def test_a_second_answer_that_fails_is_told_and_leaves_the_first(
    client: Client, asked: Session, configure: Configure, upstream: Upstream
) -> None:
    configure(OPENAI_BASE_URL=upstream.url, MODEL="500")
    failed = client.post(reverse("again", args=[asked.pk, 2]))
    assert failed.status_code == 502
    assert 'id="turn-2"' in failed.content.decode()
    assert 'role="alert">' in failed.content.decode()
    assert "Alternatives" not in failed.content.decode()


def test_a_conversation_goes_on_elsewhere_from_any_place(client: Client, asked: Session) -> None:
    page = do(client, "fork", asked, 2)
    assert OPENING in page
    assert FOLLOW_UP not in page
    assert Session.objects.exclude(pk=asked.pk).get().forked_from == asked


def test_a_thumb_is_shown_changed_and_taken_back(client: Client, asked: Session) -> None:
    page = do(client, "feedback", asked, 2, value="up")
    assert page.count('aria-pressed="true"') == 1
    page = do(client, "feedback", asked, 2, value="down", note="Too <short>")
    assert Feedback.objects.get().note == "Too <short>"
    assert "“<bdi>Too &lt;short&gt;</bdi>”" in page
    assert 'aria-pressed="true"' not in do(client, "feedback", asked, 2, value="none")
    assert not Feedback.objects.exists()


@pytest.mark.parametrize("form", [{}, {"value": "sideways"}, {"value": "up", "note": "x" * 2001}])
def test_what_is_no_thumb_is_refused(client: Client, asked: Session, form: dict[str, str]) -> None:
    assert client.post(reverse("feedback", args=[asked.pk, 2]), form).status_code == 400
    assert not Feedback.objects.exists()


@pytest.mark.parametrize("name", ["again", "edit", "choose", "feedback", "stop", "fork"])
def test_nobody_acts_in_a_conversation_of_mine(client: Client, asked: Session, bob: User, name: str) -> None:
    rows = list(Message.objects.order_by("pk").values())
    form = {"message": "me too", "value": "up"}
    client.force_login(bob)
    assert client.post(reverse(name, args=[asked.pk, 2]), form).status_code == 404
    client.force_login(asked.owner)
    assert client.get(reverse(name, args=[asked.pk, 2])).status_code == 405
    assert list(Message.objects.order_by("pk").values()) == rows
    assert Session.objects.count() == 1
    assert client.post(reverse(name, args=[asked.pk, 2]), form).status_code == 302


def test_a_turn_that_is_not_there_is_a_page_that_is_not_there(client: Client, asked: Session) -> None:
    for name in ("again", "choose", "feedback", "stop"):
        assert client.post(reverse(name, args=[asked.pk, 9]), {"value": "up"}).status_code == 404
    read(client, reverse("inspect", args=[asked.pk, 9]), status=404)


def test_a_running_reply_can_be_stopped_and_the_question_stays(client: Client, alice: User) -> None:
    session = conversation(alice)
    turns.begin(session, [NewMessage(role="user", content=OPENING)])
    client.force_login(alice)
    page = read(client, url(session))
    assert f'data-live="{reverse("turn-events", args=[session.pk, 1])}"' in page
    assert f'formaction="{reverse("stop", args=[session.pk, 1])}"' in page
    page = do(client, "stop", session, 1)
    assert "Stopped." in page
    assert OPENING in page
    assert "data-live" not in page


def test_a_reply_is_shown_as_it_was_meant_and_a_question_as_it_was_typed(client: Client, alice: User) -> None:
    session = conversation(alice)
    turns.record(
        session,
        [
            NewMessage(role="user", content="**bold** question"),
            NewMessage(role="assistant", content="**bold** answer\n\n```python\nprint(1)\n```"),
        ],
    )
    client.force_login(alice)
    page = read(client, url(session))
    assert "<strong>bold</strong> answer" in page
    assert '<code class="language-python">print(1)' in page
    assert "**bold** question" in page


def test_a_page_around_a_message_is_shown_for_whoever_jumps_there(client: Client, alice: User) -> None:
    session = conversation(alice)
    told(session, 120)
    client.force_login(alice)
    page = read(client, f"{url(session)}?at=40")
    assert 'id="m40"' in page
    assert 'id="m15"' in page
    assert 'id="m64"' in page
    assert 'id="m65"' not in page
    assert "Newest messages" in page


def test_a_page_of_many_turns_takes_as_many_queries_as_one_of_few(
    client: Client, alice: User, django_assert_num_queries: Callable[[int], CaptureQueriesContext]
) -> None:
    session = conversation(alice)
    told(session, 2)
    client.force_login(alice)
    read(client, url(session))
    with CaptureQueriesContext(connection) as few:
        read(client, url(session))
    told(session, 30)
    with django_assert_num_queries(len(few)):
        read(client, url(session))
    assert len(few) <= 12


def test_a_temporary_conversation_is_listed_nowhere_and_says_when_its_words_are_gone(client: Client) -> None:
    first = client.post("/", {"message": OPENING, "temporary": "1"})
    page = read(client, first["Location"])
    assert OPENING in page
    assert "Temporary: nothing is kept" in page
    assert str(Session.objects.get().pk) not in read(client, "/")
    caches["ephemeral"].clear()
    gone = read(client, first["Location"], status=410)
    assert "Begin a new chat" in gone
    assert 'id="composer"' not in gone
    assert client.post(first["Location"], {"message": FOLLOW_UP}).status_code == 410
