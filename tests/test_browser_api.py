"""The API's pages in a real browser: every form is pressed once, as fields and as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, Locator, Page, expect

from convo import memory
from convo.models import ME, Person, Turn, UserMemory
from tests.axe import violations
from tests.browsing import Serve, is_wider_than_the_screen, picture
from tests.servers import Server
from tests.support.rest import SESSIONS, Caller, user
from tests.support.routes import COLLECTIONS, OBJECTS, WRITES, address
from tests.upstream import Upstream

pytestmark = pytest.mark.once

Call = tuple[str, str]
PHONE = {"width": 360, "height": 740}


class Homes:
    """Sessions of Alice's, each with a message, a turn that broke off, and a memory of its id."""

    def __init__(self, alice: User, key: str) -> None:
        self._alice, self._caller = alice, Caller(key)
        client = Client()
        client.force_login(alice)
        self.cookie = client.cookies[settings.SESSION_COOKIE_NAME].value

    def make(self, number: int) -> str:
        session = self._caller.make(title=f"Home {number}")
        self._caller.append(session, user("I live here."))
        self._caller.ask(session, "Do you remember where?")
        Turn.objects.filter(session__title=f"Home {number}", number=2).update(status=Turn.Status.PARTIAL)
        id = session.split("/")[-2]
        made, _ = memory.remember(
            Person.objects.get_or_create_by_ref(self._alice, ME), f"Has home {number}", kind="fact"
        )
        UserMemory.objects.filter(pk=made.pk).update(key=id)
        return id


@pytest.fixture
def homes(alice: User, alice_key: str) -> Homes:
    return Homes(alice, alice_key)


@pytest.fixture
def home(homes: Homes) -> str:
    return homes.make(0)


@pytest.fixture
def own(homes: Homes) -> dict[Call, str]:
    """A home for every call that writes, one of its own for each that deletes.

    They are made before the browser's event loop forbids it.
    """
    shared = homes.make(0)
    deletes = [call for call in WRITES if call[1] == "delete"]
    return {call: homes.make(1 + deletes.index(call)) if call in deletes else shared for call in WRITES}


@pytest.fixture
def server(house: Serve) -> Server:
    return house(CONVO_BROWSABLE_API="everyone")


@pytest.fixture
def trouble(homes: Homes, server: Server, page: Page) -> Iterator[list[str]]:
    """What the browser complains of; Alice is signed in."""
    cookie = {"name": settings.SESSION_COOKIE_NAME, "value": homes.cookie, "url": server.url}
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    yield told
    # An answer of 4xx is told as an error, too, and a search for nothing is one.
    assert [line for line in told if not line.startswith("Failed to load resource")] == []


def fill(form: Locator, values: dict[str, Any]) -> None:
    """Type these into the form's fields, as what they are."""
    for name, value in values.items():
        if isinstance(value, list) and isinstance(value[0], dict):
            fill(form, {f"{name}[0]{inner}": entry for inner, entry in value[0].items()})
            continue
        control = form.locator(f'[name="{name}"]')
        if isinstance(value, bool):
            control.set_checked(value)
        elif control.evaluate("control => control.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill("\n".join(value) if isinstance(value, list) else value)


def press(page: Page, form: Locator) -> None:
    """Press the form's button and wait for the answer that takes the page's place."""
    page.evaluate("document.querySelector('#page').dataset.old = '1'")
    form.get_by_role("button").click()
    expect(page.locator("#page[data-old]")).to_have_count(0)
    expect(page.locator("#answer .status:not(.refused)")).to_contain_text("20")


@pytest.mark.parametrize("by", ["fields", "JSON"])
def test_every_form_does_what_it_says(
    by: str, own: dict[Call, str], server: Server, page: Page, trouble: list[str]
) -> None:
    for name, method in WRITES:
        body = (OBJECTS | COLLECTIONS)[name][method]
        if by == "JSON" and not body:
            continue
        page.goto(server.url + address(name, own[name, method]))
        if method == "delete":
            page.get_by_text("Delete …").or_(page.get_by_text("Clear …")).or_(
                page.get_by_text("Delete feedback …")
            ).click()
        form = page.locator(f"#{method.upper()}-form")
        if by == "JSON":
            page.get_by_text("As JSON …").click()
            form = page.locator(f"#{method.upper()}-raw")
            form.get_by_role("textbox").fill(json.dumps(body))
        else:
            fill(form, body or {})
        press(page, form)


def test_a_change_sends_only_what_was_changed(
    home: str, server: Server, page: Page, trouble: list[str]
) -> None:
    page.goto(f"{server.url}{SESSIONS}{home}/")
    form = page.locator("#PATCH-form")
    expect(form.get_by_label("title")).to_have_value("Home 0")
    form.get_by_label("state").select_option("archived")
    with page.expect_request(lambda request: request.method == "PATCH") as sent:
        press(page, form)
    body = sent.value.post_data or ""
    assert 'name="state"' in body
    assert 'name="title"' not in body
    expect(page.locator("#answer pre")).to_contain_text('"state": "archived"')
    page.goto(f"{server.url}/api/v1/memories/{home}/")
    for pinned in (True, False):
        page.locator("#PATCH-form").get_by_label("pinned").set_checked(pinned)
        press(page, page.locator("#PATCH-form"))
        expect(page.locator("#answer pre")).to_contain_text(f'"pinned": {str(pinned).lower()}')


def test_a_refusal_stands_beside_its_field_and_nothing_typed_is_lost(
    home: str, server: Server, page: Page, trouble: list[str]
) -> None:
    page.goto(f"{server.url}{SESSIONS}{home}/query/")
    form = page.locator("#POST-form")
    form.get_by_label("message").fill("Is it on?")
    form.get_by_label("agent").fill("nobody")
    form.get_by_role("button").click()
    told = form.get_by_role("alert").filter(has_text="There is no agent")
    expect(told).to_be_visible()
    expect(form.get_by_label("agent")).to_have_attribute("aria-invalid", "")
    expect(form.get_by_label("message")).to_have_value("Is it on?")
    expect(page.locator("#answer .status.refused")).to_contain_text("400")
    picture(page, "api-refused")
    form.get_by_label("agent").fill("assistant")
    press(page, form)
    expect(page.locator("#answer pre")).to_contain_text('"status": "complete"')
    page.get_by_text("As JSON …").click()
    raw = page.locator("#POST-raw")
    raw.get_by_role("textbox").fill("{")
    raw.get_by_role("button").click()
    expect(raw.get_by_role("alert")).to_contain_text("not JSON")


def test_an_answer_is_shown_as_it_is_written(
    home: str, house: Serve, upstream: Upstream, page: Page, homes: Homes
) -> None:
    server = house(CONVO_BROWSABLE_API="everyone", OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold")
    cookie = {"name": settings.SESSION_COOKIE_NAME, "value": homes.cookie, "url": server.url}
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    page.goto(f"{server.url}{SESSIONS}{home}/query/")
    form = page.locator("#POST-form")
    form.get_by_label("message").fill("hello")
    form.get_by_label("stream").check()
    form.get_by_role("button").click()
    expect(page.locator("#answer pre")).to_contain_text("second")
    upstream.release()
    expect(page.locator("#answer pre")).to_contain_text("turn.completed")
    page.goto(f"{server.url}{SESSIONS}{home}/turns/3/events/")
    expect(page.locator("body")).to_contain_text("turn.completed")


def test_one_finds_the_way_by_links_alone(home: str, server: Server, page: Page, trouble: list[str]) -> None:
    page.goto(f"{server.url}/api/v1/")
    picture(page, "api-root")
    page.locator("#answer a", has_text="sessions").first.click()
    page.locator("#answer a", has_text=home).click()
    picture(page, "api-session")
    here = page.get_by_role("navigation", name="What there is here")
    here.get_by_role("link", name="Turns").click()
    page.locator("#answer a", has_text="2").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Turn 2")
    here.get_by_role("link", name="Feedback").click()
    page.locator("#PUT-form").get_by_label("value").select_option("up")
    press(page, page.locator("#PUT-form"))
    picture(page, "api-feedback")
    page.get_by_role("navigation", name="The way here").get_by_role("link", name="Turn 2").click()
    expect(page.locator("#answer pre")).to_contain_text('"value": "up"')
    page.get_by_role("link", name="as plain JSON").click()
    assert page.evaluate("document.contentType") == "application/json"


def test_one_searches_by_the_form(home: str, server: Server, page: Page, trouble: list[str]) -> None:
    page.goto(f"{server.url}/api/v1/search/")
    expect(
        page.locator("#GET-form").get_by_role("alert").filter(has_text="question to search for")
    ).to_be_visible()
    page.locator("#GET-form").get_by_label("q", exact=True).fill("remember")
    page.locator("#GET-form").get_by_role("button").click()
    expect(page.locator("#answer .status")).to_contain_text("200")


def test_on_a_phone_and_in_the_dark_it_keeps_nobody_out(
    home: str, server: Server, page: Page, trouble: list[str], node_clients: Path
) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(f"{server.url}{SESSIONS}{home}/turns/2/")
    assert not is_wider_than_the_screen(page)
    assert violations(page, node_clients) == []
    picture(page, "api-phone")
    page.set_viewport_size({"width": 1280, "height": 860})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{server.url}{SESSIONS}{home}/query/")
    assert violations(page, node_clients) == []
    picture(page, "api-dark")


def test_without_javascript_one_can_still_ask(
    home: str, homes: Homes, server: Server, browser: Browser
) -> None:
    page = browser.new_page(java_script_enabled=False)
    cookie = {"name": settings.SESSION_COOKIE_NAME, "value": homes.cookie, "url": server.url}
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    page.goto(f"{server.url}{SESSIONS}{home}/query/")
    page.get_by_label("message").fill("hello")
    page.get_by_role("button", name="Query").click()
    expect(page.locator("#answer pre")).to_contain_text('"status": "complete"')


def test_the_documentation_works_under_the_content_policy(server: Server, page: Page) -> None:
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    answer = page.goto(f"{server.url}/api/docs/")
    assert answer
    assert "nonce-" in answer.headers["content-security-policy"]
    page.locator(".opblock-summary", has_text="/api/v1/memories/rules/").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".responses-table.live-responses-table")).to_contain_text("401")
    picture(page, "docs")
    assert [line for line in told if "Content Security Policy" in line] == []
