"""The API as pages: a form for every call, links that lead somewhere, and pages only for whom they are."""

import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.signals import got_request_exception
from django.test import Client
from pytest_django import Settings

from convo.models import Feedback, Message, Person, Session, Turn
from tests.support.rest import MEMORIES, QUERY, SESSIONS, Caller, ok, user
from tests.support.routes import COLLECTIONS, OBJECTS, WRITES, address, remember

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

# What a person's browser asks for.
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(autouse=True)
def _shown(settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "OFFLINE_WORD_SECONDS": 0, "BROWSABLE_API": "everyone"}


@pytest.fixture
def browser(alice: User) -> Client:
    """Alice's, signed in; it wants a token for every write."""
    browser = Client(enforce_csrf_checks=True, headers=HTML)
    browser.force_login(alice)
    return browser


@pytest.fixture
def hers(alice: User, alice_key: str) -> str:
    """The id of a session of Alice's: a message, and a question whose answer broke off; and of a memory."""
    caller = Caller(alice_key)
    session = caller.make(title="<script>alert(1)</script>")
    caller.append(session, user("<img onerror=alert(1)>"))
    caller.ask(session, "hello")
    Turn.objects.filter(number=2).update(status=Turn.Status.PARTIAL)
    id = session.split("/")[-2]
    remember(alice, id)
    return id


def token_in(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found
    return found[1]


def form_in(page: str, method: str) -> str:
    """The markup of the form that makes such a call."""
    found = re.search(rf'<form id="{method}-form".*?</form>', page, re.DOTALL)
    assert found, f"There is no form for {method}."
    return found[0]


def controls_in(form: str) -> set[str]:
    return set(re.findall(r'name="([\w\[\]]+)"', form)) - {"csrfmiddlewaretoken"}


@pytest.mark.parametrize("name", [*OBJECTS, *COLLECTIONS])
def test_every_address_is_a_page_with_a_form_for_every_call(name: str, browser: Client, hers: str) -> None:
    if name == "turn-events":
        # A stream, whoever asks.
        return
    methods = (OBJECTS | COLLECTIONS)[name]
    response = browser.get(address(name, hers))
    assert response.status_code == (200 if "get" in methods else 405)
    assert response["Content-Type"] == "text/html; charset=utf-8"
    page = response.content.decode()
    assert "<script>alert" not in page
    assert "<img onerror" not in page
    for method in set(methods) - {"get"}:
        assert form_in(page, method.upper())
        # Its docstring says what it does.
        assert re.search(rf'<span class="method">{method.upper()}</span> [A-Z][^<]+\.', page)


@pytest.mark.parametrize(("name", "method"), [(name, method) for name, method in WRITES if method == "post"])
def test_every_form_works_without_javascript(name: str, method: str, browser: Client, hers: str) -> None:
    page = browser.get(address(name, hers)).content.decode()
    body = (OBJECTS | COLLECTIONS)[name][method]
    if "messages" in body:
        body = {"messages[0]role": "user", "messages[0]content": "hello", "messages[0]item": ""}
    empty = dict.fromkeys(controls_in(form_in(page, "POST")) - {"stream", "all"}, "")
    assert controls_in(form_in(page, "POST")) >= set(body)
    given = {**empty, **body}
    assert browser.post(address(name, hers), given).status_code == 403
    posted = browser.post(address(name, hers), {"csrfmiddlewaretoken": token_in(page), **given})
    assert posted.status_code in {200, 201}, posted.content
    assert posted["Content-Type"] == "text/html; charset=utf-8"


def test_what_is_changed_stands_in_the_form_as_it_is(browser: Client, hers: str) -> None:
    Session.objects.filter(pk=hers).update(title="Two laptops", metadata={"plan": "pro"}, state="archived")
    form = unescape(form_in(browser.get(f"{SESSIONS}{hers}/").content.decode(), "PATCH"))
    assert 'value="Two laptops"' in form
    assert '"plan": "pro"' in form
    assert "<option selected>archived</option>" in form
    Person.objects.update(never_store=["my salary", "my health"])
    assert "my salary\nmy health</textarea>" in browser.get(f"{MEMORIES}rules/").content.decode()


def test_a_refusal_is_told_beside_the_field_and_what_was_typed_stays(browser: Client, hers: str) -> None:
    token = token_in(browser.get(f"{SESSIONS}{hers}/query/").content.decode())
    typed = {"csrfmiddlewaretoken": token, "message": "Is it on?", "agent": "nobody"}
    refused = browser.post(f"{SESSIONS}{hers}/query/", typed)
    assert refused.status_code == 400
    form = form_in(refused.content.decode(), "POST")
    assert "Is it on?</textarea>" in form
    assert 'value="nobody"' in form
    (told,) = re.findall(r'data-error="(\w*)">([^<]+)<', form)
    assert told[0] == "agent"
    assert "There is no agent" in told[1]


def test_a_refusal_that_is_about_no_field_is_told_at_the_form(browser: Client, hers: str) -> None:
    Session.objects.filter(pk=hers).update(state="closed")
    token = token_in(browser.get(f"{SESSIONS}{hers}/query/").content.decode())
    refused = browser.post(f"{SESSIONS}{hers}/query/", {"csrfmiddlewaretoken": token, "message": "hello"})
    assert refused.status_code == 409
    (told,) = re.findall(r'data-error="(\w*)">([^<]+)<', form_in(refused.content.decode(), "POST"))
    assert told[0] == ""


def test_a_page_leads_on_and_every_link_leads_somewhere(browser: Client, hers: str) -> None:
    at = f"{SESSIONS}{hers}/"
    seen: set[str] = set()
    new = {"/api/v1/"}
    while new:
        seen |= new
        found: set[str] = set()
        for path in sorted(new):
            response = browser.get(path)
            # A search for nothing is refused, beside its field.
            assert response.status_code == 400 if path.endswith("/search/") else {200, 405}, path
            if response["Content-Type"].startswith("text/html") and not response.streaming:
                found |= links_in(response.content.decode())
        new = {link for link in found if link.startswith("/api/v1/") and "format=json" not in link} - seen
    expected = {"", "history/", "context/", "query/", "messages/", "turns/", "turns/2/", "messages/1/"}
    assert {at + path for path in expected} <= seen
    assert {f"{at}turns/2/{path}/" for path in ("events", "feedback", "edit", "cancel")} <= seen
    assert {f"{MEMORIES}{hers}/", f"{MEMORIES}rules/", QUERY} <= seen


def links_in(page: str) -> set[str]:
    found = re.findall(r'<a href="(?:http://testserver)?([^"]+)"', page)
    return {unescape(link) for link in found}


def test_where_nothing_is_there_is_nothing_to_press(browser: Client, hers: str) -> None:
    at = f"{SESSIONS}{hers}/messages/1/"
    page = browser.get(at)
    assert 'id="DELETE-form"' in page.content.decode()
    token = {"X-CSRFToken": token_in(page.content.decode())}
    deleted = browser.delete(at, headers=token).content.decode()
    assert "204 No Content" in deleted
    for page_then in (deleted, browser.get(at).content.decode()):
        assert "-form" not in page_then
        assert f'href="{SESSIONS}{hers}/messages/"' in page_then


def test_without_our_templates_it_is_the_frameworks_own_page(
    browser: Client, hers: str, settings: Settings
) -> None:
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": []}]
    page = browser.get(f"{SESSIONS}{hers}/turns/2/feedback/")
    assert page.status_code == 200
    assert b"Django REST framework" in page.content
    assert browser.get("/api/docs/").status_code == 200


def test_the_way_to_a_page_is_told(browser: Client, hers: str) -> None:
    page = browser.get(f"{SESSIONS}{hers}/turns/2/feedback/").content.decode()
    way = re.search(r'<nav class="way".*?</nav>', page, re.DOTALL)
    assert way
    names = re.findall(r">([^<>]+)</a>", way[0])
    assert names == ["API", "Sessions", f"Session {hers[:8]}", "Turns", "Turn 2"]
    assert "<h1>Feedback</h1>" in page


@pytest.mark.parametrize(
    ("setting", "who", "kind"),
    [
        ("everyone", "somebody", "text/html"),
        ("everyone", "staff", "text/html"),
        ("everyone", "nobody", "text/html"),
        ("staff", "staff", "text/html"),
        ("staff", "somebody", "application/json"),
        ("staff", "nobody", "application/json"),
        ("off", "staff", "application/json"),
        ("off", "nobody", "application/json"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/", SESSIONS, f"{SESSIONS}unknown/"])
def test_only_those_see_pages_whom_the_setting_names(
    setting: str, who: str, kind: str, path: str, alice: User, settings: Settings
) -> None:
    settings.CONVO = {**settings.CONVO, "BROWSABLE_API": setting}
    User.objects.filter(pk=alice.pk).update(is_staff=who == "staff")
    client = Client(headers=HTML)
    if who != "nobody":
        client.force_login(alice)
    assert client.get(path)["Content-Type"].partition(";")[0] == kind
    # Whoever takes nothing else gets the envelope.
    only = client.get(path, headers={"Accept": "text/html"})
    if kind == "application/json":
        assert ok(only, 401 if only.status_code == 401 else 406)["error"]["code"]
        assert client.get(f"{path}?format=api").status_code in {401, 404}


def test_a_bad_key_is_told_as_such_where_only_staff_sees_pages(settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "BROWSABLE_API": "staff"}
    refused = Caller("convo_bad").get(SESSIONS, headers=HTML)
    assert "This API key is not valid" in ok(refused, 401)["error"]["message"]


SECRET = "The garden gate is open"


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_failure_that_nobody_expected_shows_nothing(
    debug: bool, accept: str, browser: Client, hers: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DEBUG = debug
    at = f"{SESSIONS}{hers}/turns/2/"
    Feedback.objects.create(turn=Turn.objects.get(number=2), value=1, note=SECRET)
    browser.raise_request_exception = False
    assert SECRET in browser.get(at, headers={"Accept": accept}).content.decode()
    # No such thumb: what is stored is broken.
    Feedback.objects.update(value=7)
    heard: list[Any] = []
    got_request_exception.connect(lambda **told: heard.append(told), weak=False, dispatch_uid="test")
    try:
        failed = browser.get(at, headers={"Accept": accept})
    finally:
        got_request_exception.disconnect(dispatch_uid="test")
    assert failed.status_code == 500
    assert failed["Content-Type"].startswith(accept)
    page = failed.content.decode()
    assert "server_error" in page
    telling = (SECRET, "ValueError", "Traceback", "Feedback.Value", "convo/http")
    assert not [word for word in telling if word in page]
    assert len(heard) == 1
    assert "ValueError" in caplog.text


@pytest.mark.parametrize("debug", [False, True])
def test_over_v1_neither(debug: bool, hers: str, alice_key: str, settings: Settings) -> None:
    settings.DEBUG = debug
    caller = Caller(alice_key)
    caller.raise_request_exception = False
    at = f"/v1/conversations/conv_{hers.replace('-', '')}/items"
    assert SECRET not in ok(caller.get(at))
    Message.objects.filter(position=1).update(item=["garden", SECRET])
    failed = ok(caller.get(at), 500)
    assert failed["error"]["code"] == "server_error"
    assert SECRET not in str(failed)
