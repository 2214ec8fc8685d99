"""The pages as those need them who don't see, or don't use a mouse: axe-core finds nothing grave."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.axe import violations
from tests.browsing import Serve, ask, replied

pytestmark = pytest.mark.once

OPENING = "I’m choosing between the Zephyr 14 and the Atlas 15 laptops."
PAGES = {
    "welcome": "/",
    "sign in": "/sign-in/",
    "sign up": "/sign-up/",
    "conversations": "/conversations/",
    "memory": "/memory/",
    "search": "/search/?q=laptops",
    "nothing there": "/c/nothing/",
}


def walked(page: Page, url: str) -> str:
    """A guest who has said something, and been answered; the address of that."""
    page.goto(url)
    ask(page, OPENING)
    replied(page, 1)
    return page.url


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_keeps_anybody_out(house: Serve, browser: Browser, node_clients: Path, dark: bool) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.emulate_media(color_scheme="dark" if dark else "light")
    url = house().url
    found = {}
    page.goto(url)
    found["empty"] = violations(page, node_clients)
    walked(page, url)
    found["conversation"] = violations(page, node_clients)
    page.locator("#turn-1 summary").first.click()
    found["what the model saw"] = violations(page, node_clients)
    for name, at in PAGES.items():
        page.goto(url + at)
        found[name] = violations(page, node_clients)
    assert [f"{name}: {wrong}" for name, all in found.items() for wrong in all] == []


def test_a_form_that_was_refused_keeps_nobody_out(house: Serve, browser: Browser, node_clients: Path) -> None:
    page = browser.new_page()
    page.goto(f"{house().url}/sign-up/")
    page.get_by_label("Username").fill("dora")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("Repeat the password").fill("other")
    page.get_by_role("button").click()
    expect(page.get_by_text("didn’t match")).to_be_visible()
    assert violations(page, node_clients) == []


def test_the_check_sees_what_is_wrong(browser: Browser, node_clients: Path) -> None:
    page = browser.new_page()
    page.set_content("<html lang=en><title>t</title><main><img src=x><input><p style='color:#ddd'>faint</p>")
    found = " ".join(violations(page, node_clients))
    for rule in ("image-alt", "label", "color-contrast"):
        assert rule in found
