"""Signing in and out as a person does it: what comes along, and what stays in the browser afterwards."""

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browsing import FLAGS, GUESTS, Serve, ask, is_wider_than_the_screen, picture, replied
from tests.servers import client_of

pytestmark = pytest.mark.once

SECRET = "The standby key lies under the blue flowerpot."
PASSWORD = "walnut-and-rye"


@pytest.fixture
def remembering(share: Serve, chromium: str) -> Iterator[Browser]:
    """Chromium as people have it: it keeps the pages that one may go back to, whole, in memory."""
    with sync_playwright() as playwright:
        forgetful = ["--disable-back-forward-cache"]
        browser = playwright.chromium.launch(
            executable_path=chromium, args=FLAGS, ignore_default_args=forgetful
        )
        yield browser
        browser.close()


def sign_up(page: Page, name: str) -> None:
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Repeat the password").fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()


def test_a_guest_makes_an_account_and_finds_everything_there(house: Serve, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    server = house()
    page.goto(server.url)
    ask(page, SECRET)
    replied(page, 1)
    here = page.url
    page.get_by_role("link", name="Sign in to keep them").click()
    expect(page.get_by_text("comes along")).to_be_visible()
    picture(page, "sign-in")
    page.get_by_role("link", name="Make one").click()
    picture(page, "sign-up")
    sign_up(page, "dora")
    expect(page).to_have_url(re.compile(re.escape(here.partition("#")[0])))
    expect(page.locator("#turn-1")).to_contain_text(SECRET)
    expect(page.get_by_text("Signed in as dora")).to_be_visible()
    picture(page, "signed-in")

    elsewhere = browser.new_page()
    elsewhere.goto(server.url)
    ask(elsewhere, "I am at the library.")
    replied(elsewhere, 1)
    elsewhere.get_by_role("link", name="Sign in to keep them").click()
    elsewhere.get_by_label("Username").fill("dora")
    elsewhere.get_by_label("Password").fill(PASSWORD)
    elsewhere.get_by_label("Password").press("Enter")
    listed = elsewhere.get_by_role("navigation", name="Your conversations")
    expect(listed).to_contain_text("I am at the library.")
    expect(listed).to_contain_text(SECRET)


def test_what_was_refused_is_told_at_its_field_on_any_screen(house: Serve, browser: Browser) -> None:
    url = house().url
    screens = {"phone": {"width": 360, "height": 740}, "dark": {"width": 1280, "height": 860}}
    for name, screen in screens.items():
        scheme = "dark" if name == "dark" else "light"
        page = browser.new_page(viewport=screen, color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(f"{url}/sign-up/")
        page.get_by_label("Username").fill("dora")
        page.get_by_label("Password", exact=True).fill("short")
        page.get_by_label("Repeat the password").fill("shorter")
        page.keyboard.press("Enter")
        field = page.get_by_label("Repeat the password")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile("didn’t match"))
        assert not is_wider_than_the_screen(page)
        picture(page, f"sign-up-refused-{name}")


def test_after_signing_out_going_back_shows_nothing(share: Serve, remembering: Browser) -> None:
    page = remembering.new_page()
    server = share(**GUESTS)
    page.goto(f"{server.url}/sign-up/")
    sign_up(page, "dora")
    ask(page, SECRET)
    replied(page, 1)
    conversation = page.url
    page.goto(f"{server.url}/memory/")
    page.go_back()
    expect(page.locator("#turn-1")).to_contain_text(SECRET)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("No need to sign up")).to_be_visible()
    for _ in range(3):
        page.go_back()
        page.wait_for_load_state("networkidle")
        expect(page.locator("body")).not_to_contain_text(SECRET)
        expect(page.locator("body")).not_to_contain_text("dora")
    page.goto(conversation)
    expect(page.get_by_text("I can’t recall that.")).to_be_visible()


def test_a_form_of_another_site_writes_nothing(share: Serve, remembering: Browser) -> None:
    """A page elsewhere posts to ours, as a form and as a script may, with the visitor's cookies if it can."""
    server = share(**GUESTS)
    page = remembering.new_page()
    page.goto(server.url)
    ask(page, SECRET)
    replied(page, 1)
    before = page.context.cookies()
    assert {cookie["sameSite"] for cookie in before} == {"Lax"}
    api = f"{server.url}/api/v1/sessions/"
    attack = f"""
      <form id=f method=post enctype=text/plain action="{api}"><input name='{{"title":"' value='"}}'></form>
      <form id=g method=post action="{server.url}/"><input name=message value=forged></form>"""
    page.route("http://elsewhere.test/**", lambda route: route.fulfill(body=attack, content_type="text/html"))
    statuses = []
    page.on("response", lambda response: statuses.append((response.request.method, response.status)))
    for form in "fg":
        page.goto("http://elsewhere.test/")
        page.evaluate(f"document.getElementById('{form}').submit()")
        page.wait_for_load_state("networkidle")
    page.goto("http://elsewhere.test/")
    page.evaluate(
        """(api) => fetch(api, { method: "POST", mode: "no-cors", credentials: "include", body: "{}",
           headers: { "Content-Type": "text/plain" } }).catch(() => null)""",
        api,
    )
    posted = [status for method, status in statuses if method == "POST"]
    assert posted
    assert set(posted) <= {401, 403, 415}
    page.goto(server.url)
    expect(page.get_by_role("navigation", name="Your conversations").get_by_role("listitem")).to_have_count(1)


def test_a_cookie_without_its_token_writes_nothing_on_a_real_server(share: Serve) -> None:
    with client_of(share(**GUESTS)) as browser:
        browser.get("/sign-in/")
        token = {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        assert browser.post("/", data={"message": SECRET, **token}).status_code == 302
        api = "/api/v1/sessions/"
        assert browser.post(api, json={}).status_code == 403
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            assert browser.post(api, content="{}", headers={"Content-Type": kind}).status_code in {403, 415}
        allowed = {"X-CSRFToken": browser.cookies["csrftoken"]}
        refused = browser.post(api, content="{}", headers={**allowed, "Content-Type": "text/plain"})
        assert refused.status_code == 415
        made = browser.post(api, json={}, headers=allowed)
        assert made.status_code == 201
        assert "no-store" in browser.get(api).headers["Cache-Control"]
        for at in ("/", "/sign-in/", "/sign-up/", "/sign-out/"):
            assert browser.post(at, data={"message": "forged"}).status_code == 403
    assert get_user_model().objects.count() == 1
