"""The search page and the list of conversations in a real browser: found, renamed, deleted, undone."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.axe import violations
from tests.browsing import Serve, ask, is_wider_than_the_screen, picture, replied
from tests.faults import wait_until
from tests.upstream import Upstream

pytestmark = pytest.mark.once

PHONE = {"width": 360, "height": 740}
FLIGHT = "My sister Mira flies in from Oslo on Friday at 7:40. She is allergic to walnuts."
LAPTOPS = "I’m choosing between the Zephyr 14 and the Atlas 15 laptops."
RECIPE = "What could I bake for Sunday, with cardamom?"


def said(page: Page, url: str, *texts: str) -> None:
    """A conversation for each of these, and what was said is indexed."""
    for text in texts:
        page.goto(url)
        ask(page, text)
        replied(page, 1)


def search(page: Page, query: str) -> None:
    """From any page, with the keyboard alone."""
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/search/\?q="))


def found(page: Page, query: str, text: str) -> None:
    """Search until it is indexed, which takes a moment."""
    for _ in range(40):
        if page.locator(".hit", has_text=text).count():
            return
        page.wait_for_timeout(250)
        page.reload()
    expect(page.locator(".hit").first).to_contain_text(text)


def test_what_was_said_is_found_and_jumped_to(house: Serve, page: Page) -> None:
    server = house(CONVO_SWEEP_SECONDS="0.3")
    page.goto(f"{server.url}/search/")
    expect(page.get_by_text("Everything you said")).to_be_visible()
    expect(page.locator("#find")).to_be_focused()
    picture(page, "search-empty")
    said(page, server.url, FLIGHT, LAPTOPS, RECIPE)
    page.locator("main").click()
    search(page, "What is Mira allergic to?")
    found(page, "Mira", "walnuts")
    expect(page.locator("#find")).to_have_value("What is Mira allergic to?")
    expect(page.locator(".hit").first.locator("mark", has_text="Mira").first).to_be_visible()
    picture(page, "search")
    page.emulate_media(color_scheme="dark")
    picture(page, "search-dark")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert not is_wider_than_the_screen(page)
    picture(page, "search-phone")
    page.locator(".hit .match", has_text="walnuts").first.click()
    expect(page).to_have_url(re.compile(r"/c/[0-9a-f-]{36}/\?at=\d+#m\d+$"))
    expect(page.locator(":target")).to_contain_text("walnuts")


def test_on_a_phone_no_search_scrolls_sideways(house: Serve, page: Page, tmp_path: Path) -> None:
    """Review 21: long words, titles and agents' names made the page wider than the screen."""
    agents = tmp_path / "agents.yaml"
    title = "An agent whose title is longer than any screen of a phone is wide"
    agents.write_text(f"default: one\nagents:\n  one:\n    display_name: {title}\n  two: {{}}\n")
    server = house(CONVO_SWEEP_SECONDS="0.3", CONVO_AGENTS_FILE=str(agents))
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    said(page, server.url, f"Mira {'Unbroken' * 40} and {LAPTOPS}")
    session = page.url.split("/c/")[1].split("/")[0]
    page.goto(f"{server.url}/search/?q=Mira")
    found(page, "Mira", "Unbroken")
    for query in (
        "",
        "?q=Mira",
        f"?q=Mira&session={session}",
        f"?q={'Unbroken' * 40}",
        "?q=zebras&agent=one",
    ):
        page.goto(f"{server.url}/search/{query}")
        assert not is_wider_than_the_screen(page), query
    picture(page, "search-phone-long")


def test_nothing_found_and_a_narrowed_search_say_so(house: Serve, page: Page) -> None:
    server = house(CONVO_SWEEP_SECONDS="0.3")
    said(page, server.url, FLIGHT)
    page.goto(f"{server.url}/search/?q=Mira")
    found(page, "Mira", "walnuts")
    page.get_by_role("link", name=re.compile("^only here")).first.click()
    expect(page.locator(".filters .only")).to_contain_text("My sister Mira")
    picture(page, "search-narrowed")
    page.get_by_label("Since").fill("2040-01-01")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("Nothing within these limits")).to_be_visible()
    picture(page, "search-nothing")
    page.get_by_role("link", name="Search everything").click()
    expect(page.locator(".hit").first).to_contain_text("walnuts")


def test_a_conversation_is_renamed_archived_deleted_and_had_back(house: Serve, page: Page) -> None:
    server = house()
    said(page, server.url, FLIGHT, LAPTOPS, RECIPE)
    page.get_by_role("link", name="All conversations").click()
    row = page.locator(".conversation", has_text="laptops")
    row.hover()
    picture(page, "conversations")
    row.locator("summary").click()
    box = row.get_by_role("textbox", name="Title")
    box.fill("Which laptop?")
    picture(page, "conversations-rename")
    box.press("Enter")
    renamed = page.locator(".conversation", has_text="Which laptop?")
    expect(renamed).to_be_visible()
    expect(page.get_by_role("navigation", name="Your conversations")).to_contain_text("Which laptop?")

    renamed.hover()
    renamed.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Deleted “Which laptop?”")).to_be_visible()
    expect(renamed).to_have_count(0)
    picture(page, "conversations-undo")
    page.emulate_media(color_scheme="dark")
    picture(page, "conversations-dark")
    page.get_by_role("button", name="Undo").click()
    expect(renamed).to_be_visible()
    expect(page.get_by_text("Deleted “")).to_have_count(0)

    renamed.hover()
    renamed.get_by_role("button", name="Archive").click()
    expect(renamed).to_have_count(0)
    page.get_by_role("link", name="Archived").click()
    expect(renamed).to_be_visible()
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert not is_wider_than_the_screen(page)
    page.goto(f"{server.url}/conversations/")
    picture(page, "conversations-phone")
    page.locator(".conversation summary").first.click()
    assert not is_wider_than_the_screen(page)
    picture(page, "conversations-phone-rename")


def test_deleting_stops_a_reply_that_is_being_written(house: Serve, page: Page, upstream: Upstream) -> None:
    server = house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold")
    page.goto(server.url)
    ask(page, FLIGHT)
    expect(page.locator(".exchange .reply .text")).to_have_text("first second ")
    page.goto(f"{server.url}/conversations/")
    row = page.locator(".conversation")
    row.hover()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Undo").click()
    wait_until(lambda: not upstream.active)
    row.locator(".name").click()
    expect(page.locator("#turn-1 .reply .text")).to_have_text("first second")
    expect(page.locator("#turn-1")).to_contain_text("Stopped.")


def test_all_of_it_works_without_javascript(house: Serve, browser: Browser) -> None:
    page = browser.new_page(java_script_enabled=False)
    server = house(CONVO_SWEEP_SECONDS="0.3")
    page.goto(server.url)
    page.get_by_role("textbox", name="Message").fill(FLIGHT)
    page.get_by_role("button", name="Send").click()
    page.get_by_role("searchbox", name="Search your conversations").fill("Mira")
    page.keyboard.press("Enter")
    found(page, "Mira", "walnuts")
    page.get_by_role("link", name="All conversations").click()
    row = page.locator(".conversation")
    row.locator("summary").click()
    row.get_by_role("textbox", name="Title").fill("Mira’s visit")
    row.get_by_role("button", name="Rename", exact=True).click()
    expect(row).to_contain_text("Mira’s visit")
    row.hover()
    row.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(row).to_contain_text("Mira’s visit")


def test_the_keyboard_reaches_every_act(house: Serve, page: Page) -> None:
    server = house()
    said(page, server.url, FLIGHT)
    page.goto(f"{server.url}/conversations/")
    page.locator(".conversation .name").focus()
    for name in ("Rename", "Archive", "Delete"):
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_attribute("aria-label", re.compile(name))
        expect(page.locator(":focus")).to_be_visible()
        assert page.locator(".acts").evaluate("acts => getComputedStyle(acts).opacity") == "1"
    page.keyboard.press("Enter")
    expect(page.get_by_text("Deleted “")).to_be_visible()


def test_nobody_is_kept_out(house: Serve, page: Page, node_clients: Path) -> None:
    server = house(CONVO_SWEEP_SECONDS="0.3")
    said(page, server.url, FLIGHT, LAPTOPS)
    page.goto(f"{server.url}/search/?q=Mira")
    found(page, "Mira", "walnuts")
    addresses = [
        page.url,
        f"{server.url}/search/",
        f"{server.url}/search/?q=zeppelin",
        f"{server.url}/conversations/",
    ]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for address in addresses:
            page.goto(address)
            assert violations(page, node_clients) == []
        page.locator(".conversation summary").first.click()
        assert violations(page, node_clients) == []
        page.locator(".conversation").last.hover()
        page.get_by_role("button", name="Delete").last.click()
        expect(page.get_by_role("button", name="Undo")).to_be_visible()
        assert violations(page, node_clients) == []
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_role("button", name="Undo")).to_have_count(0)
