"""Signing in, up and out: what people are asked, what they are told, and where they come out."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from convo.models import Session
from tests.browsing import Serve
from tests.faults import events
from tests.servers import client_of
from tests.support.pages import read
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

PASSWORD = "walnut-and-rye"
OPENING = "I carry the Zephyr 14 every day."


@pytest.fixture(autouse=True)
def _quick(settings: Settings) -> None:
    quick = "django.contrib.auth.hashers.MD5PasswordHasher"
    settings.PASSWORD_HASHERS = [quick, *settings.PASSWORD_HASHERS]
    settings.CONVO = {**settings.CONVO, "GUESTS": True, "SIGN_UP": True, "OFFLINE_WORD_SECONDS": 0}


@pytest.fixture
def carol(db: None) -> User:
    """She has an account and a password."""
    return get_user_model().objects.create_user("carol", password=PASSWORD)


def sign_in(client: Client, name: str = "carol", password: str = PASSWORD, **fields: str) -> Any:
    return client.post("/sign-in/", {"username": name, "password": password, **fields})


def sign_up(client: Client, name: str = "dora", password: str = PASSWORD, **fields: str) -> Any:
    return client.post(
        "/sign-up/", {"username": name, "password1": password, "password2": password, **fields}
    )


def who(client: Client) -> str:
    """Whom the page greets."""
    found = re.search(r"Signed in as <bdi>(.*?)</bdi>", read(client, "/"))
    return found[1] if found else ""


def test_a_guest_who_signs_in_keeps_the_conversation(client: Client, carol: User) -> None:
    client.post("/", {"message": OPENING})
    assert "You are a guest" in read(client, "/")
    assert sign_in(client)["Location"] == "/"
    assert who(client) == "carol"
    assert OPENING in read(client, "/")
    assert list(get_user_model().objects.all()) == [carol]


def test_a_guest_who_signs_up_is_the_account(client: Client) -> None:
    client.post("/", {"message": OPENING})
    guest = get_user_model().objects.get()
    assert sign_up(client)["Location"] == "/"
    assert who(client) == "dora"
    assert OPENING in read(client, "/")
    guest.refresh_from_db()
    assert guest.get_username() == "dora"
    other = Client()
    assert sign_in(other, "dora").status_code == 302
    assert OPENING in read(other, "/")


def test_an_account_that_is_called_guest_stays_one(client: Client, carol: User) -> None:
    """Review 13: it has no password where people come in by single sign-on."""
    client.force_login(get_user_model().objects.create_user("guest-x"))
    client.post("/", {"message": OPENING})
    assert who(client) == "guest-x"
    sign_in(client)
    assert OPENING not in read(client, "/")
    assert Session.objects.get().owner.get_username() == "guest-x"


def test_somebody_new_signs_up_and_has_nothing_yet(client: Client, carol: User) -> None:
    sign_up(client)
    assert who(client) == "dora"
    assert not Session.objects.exists()


def test_whoever_signs_in_as_somebody_else_leaves_everything_where_it_is(client: Client, carol: User) -> None:
    sign_up(client)
    client.post("/", {"message": OPENING})
    sign_in(client)
    assert who(client) == "carol"
    assert OPENING not in read(client, "/")
    assert Session.objects.get().owner.get_username() == "dora"


def test_a_wrong_password_changes_nothing(client: Client, carol: User) -> None:
    client.post("/", {"message": OPENING})
    refused = sign_in(client, password="walnut")
    assert refused.status_code == 400
    assert "correct username and password" in refused.content.decode()
    assert 'value="carol"' in refused.content.decode()
    assert "walnut" not in refused.content.decode()
    assert "You are a guest" in read(client, "/")
    assert OPENING in read(client, "/")


def test_a_closed_account_lets_nobody_in(client: Client, carol: User) -> None:
    get_user_model().objects.filter(pk=carol.pk).update(is_active=False)
    assert sign_in(client).status_code == 400


@pytest.mark.parametrize(
    ("name", "password", "told"),
    [
        ("Carol", PASSWORD + "!", "already exists"),
        ("dora", "short", "too short"),
        ("dora", "password", "too common"),
        ("dora-dora", "dora-dora", "too similar"),
        ("", PASSWORD, "required"),
        ("do\0ra", PASSWORD, "Null characters"),
        ("d" * 151, PASSWORD, "at most 150"),
    ],
)
def test_a_bad_name_or_password_is_told_at_its_field(
    client: Client, carol: User, name: str, password: str, told: str
) -> None:
    refused = sign_up(client, name, password)
    assert refused.status_code == 400
    assert told in refused.content.decode()
    assert 'aria-invalid="true"' in refused.content.decode()
    assert list(get_user_model().objects.all()) == [carol]


def test_passwords_that_differ_are_told(client: Client) -> None:
    fields = {"username": "dora", "password1": PASSWORD, "password2": PASSWORD + "s"}
    assert "match" in client.post("/sign-up/", fields).content.decode()
    assert not get_user_model().objects.exists()


def test_a_form_that_is_sent_twice_signs_in(client: Client) -> None:
    client.post("/", {"message": OPENING})
    twice = Client()
    twice.cookies.load(client.cookies.output(attrs=[], header=""))
    sign_up(client)
    assert sign_up(twice).status_code == 302
    assert who(client) == who(twice) == "dora"
    assert get_user_model().objects.count() == 1


def test_a_name_that_somebody_takes_at_that_moment_is_one_account(client: Client) -> None:
    clients = [Client() for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(sign_up, clients))
    assert {answer.status_code for answer in answers} <= {302, 400}
    assert get_user_model().objects.count() == 1


def test_without_sign_up_there_is_no_such_page_and_no_way_to_it(
    client: Client, settings: Settings, carol: User
) -> None:
    assert "/sign-up/" in read(client, "/sign-in/")
    read(client, "/sign-up/")
    settings.CONVO = {**settings.CONVO, "SIGN_UP": False}
    assert "/sign-up/" not in read(client, "/sign-in/")
    read(client, "/sign-up/", status=404)
    assert sign_up(client).status_code == 404
    assert list(get_user_model().objects.all()) == [carol]


@pytest.mark.parametrize("act", [sign_in, sign_up])
@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        ("/c/nothing/?a=1", "/c/nothing/?a=1"),
        ("", "/"),
        ("https://example.invalid/", "/"),
        ("//example.invalid/", "/"),
        ("/\\example.invalid/", "/"),
        ("\\/example.invalid", "/"),
        ("http:///example.invalid", "/"),
        ("javascript:alert(1)", "/"),
        ("\thttps://example.invalid", "/"),
    ],
)
def test_nobody_is_sent_to_another_server(
    client: Client, carol: User, act: Any, wanted: str, reached: str
) -> None:
    assert act(client, next=wanted)["Location"] == reached
    page = Client().get("/sign-in/", {"next": wanted}).content.decode()
    assert ("example.invalid" in page or "javascript:" in page) == (reached != "/" and "example" in wanted)


def test_who_is_asked_to_sign_in_comes_out_where_they_were_going(
    client: Client, settings: Settings, carol: User
) -> None:
    settings.CONVO = {**settings.CONVO, "GUESTS": False}
    asked = client.get("/?q=garden")
    assert asked["Location"] == "/sign-in/?next=/%3Fq%3Dgarden"
    page = read(client, asked["Location"])
    assert 'name="next" value="/?q=garden"' in page
    assert sign_in(client, next="/?q=garden")["Location"] == "/?q=garden"


def test_the_admin_is_entered_by_the_same_door(client: Client, carol: User) -> None:
    asked = client.get("/admin/", follow=True)
    assert asked.redirect_chain[-1] == ("/sign-in/?next=%2Fadmin%2F", 302)
    client.force_login(carol)
    refused = client.get("/admin/", follow=True)
    assert refused.status_code == 200
    assert "You are signed in as <bdi>carol</bdi>" in refused.content.decode()
    root = get_user_model().objects.create_superuser("root", password=PASSWORD)
    assert sign_in(client, root.get_username(), next="/admin/")["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_signing_out_takes_a_form_and_forgets_who_it_was(client: Client, carol: User) -> None:
    sign_in(client)
    assert client.get("/sign-out/").status_code == 405
    assert who(client) == "carol"
    left = client.post("/sign-out/")
    assert (left.status_code, left["Location"]) == (302, "/")
    assert left["Clear-Site-Data"] == '"cache"'
    assert who(client) == ""


@pytest.mark.parametrize("at", ["/sign-in/", "/sign-up/", "/sign-out/"])
def test_each_form_needs_its_token(at: str, carol: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    page = strict.get("/sign-in/").context
    fields = {"username": "carol", "password": PASSWORD, "password1": PASSWORD, "password2": PASSWORD}
    if at == "/sign-up/":
        fields["username"] = "dora"
    assert strict.post(at, fields).status_code == 403
    assert "sessionid" not in strict.cookies
    assert strict.post(at, {**fields, "csrfmiddlewaretoken": page["csrf_token"]}).status_code == 302


def test_the_cookie_of_before_is_worth_nothing_afterwards(client: Client, carol: User) -> None:
    client.post("/", {"message": OPENING})
    before = Client()
    before.cookies.load(client.cookies.output(attrs=[], header=""))
    assert OPENING in read(before, "/")
    sign_in(client)
    assert OPENING not in read(before, "/")
    assert client.cookies["sessionid"]["httponly"]
    assert client.cookies["sessionid"]["samesite"] == "Lax"


def test_who_signs_in_while_a_reply_is_written_reads_its_end(
    share: Serve, upstream: Upstream, carol: User
) -> None:
    # The server hashes as servers do.
    carol.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    carol.save()
    env = {"DEBUG": "1", "OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": "hold"}
    with client_of(share(**env)) as browser:
        browser.get("/sign-in/")

        def post(at: str, **fields: str) -> str:
            told = {**fields, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            answer = browser.post(at, data=told, headers={"X-Convo-Page": "1"})
            assert answer.status_code == 302
            return answer.headers["Location"].partition("#")[0]

        here = post("/", message=OPENING)
        turn = f"/api/v1/sessions/{Session.objects.get().pk}/turns/1/events/"
        with browser.stream("GET", turn) as reply:
            told = events(reply)
            assert next(told)[0] == "turn.started"
            post("/sign-in/", username="carol", password=PASSWORD)
            upstream.release()
            assert [name for name, _ in told][-1] == "turn.completed"
        assert "first second last" in browser.get(here).text
    assert Session.objects.get().owner == carol
