"""The memory page in a real browser: what was said is there, and what is done there reaches the prompt."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.axe import violations
from tests.browsing import Serve, ask, is_wider_than_the_screen, picture, replied
from tests.servers import WORKS
from tests.upstream import Upstream

pytestmark = pytest.mark.once

PHONE: Any = {"width": 360, "height": 740}
HOME, PET = "I live in Oslo.", "My dog is called Bo."


def start(house: Serve, upstream: Upstream) -> str:
    """A server whose replies come from a model, and whose facts come from the built-in rules."""
    env = {"OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": "words-5", "CONVO_BACKGROUND_MODEL": "offline"}
    return house(**env, **WORKS).url


def say(page: Page, url: str, *texts: str) -> None:
    """In a conversation of its own."""
    page.goto(url)
    for turn, text in enumerate(texts, 1):
        ask(page, text)
        replied(page, turn)


def told(upstream: Upstream) -> str:
    """All that the model was told last."""
    return "\n".join(str(message["content"]) for message in upstream.last["messages"])


def look(page: Page, url: str, text: str) -> Locator:
    """The memory page as soon as this fact is on it."""
    row = page.locator(".fact").filter(has=page.get_by_role("heading", name=text))
    page.goto(f"{url}/memory/")
    for _ in range(100):
        if row.count():
            break
        page.wait_for_timeout(100)
        page.reload()
    expect(row).to_have_count(1)
    return row


def change(row: Locator) -> None:
    row.locator("summary", has_text="Change").click()


def test_what_is_done_about_a_fact_reaches_the_next_prompt(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    url = start(house, upstream)
    page.goto(f"{url}/memory/")
    expect(page.get_by_role("heading", level=1)).to_contain_text("nothing yet")
    picture(page, "memory-empty")
    page.get_by_role("main").get_by_role("link", name="Start a conversation").click()
    say(page, url, HOME, PET)
    row = look(page, url, "Lives in Oslo")
    look(page, url, "Dog is called Bo")
    expect(row.get_by_role("blockquote")).to_have_text(HOME)
    say(page, url, "Where should my parcel go?")
    assert "Lives in Oslo" in told(upstream)

    look(page, url, "Lives in Oslo")
    change(row)
    row.get_by_role("textbox", name="In your own words").fill("Lives in Bergen")
    row.get_by_role("button", name="Save").click()
    expect(page.locator("#notices")).to_contain_text("Now it says: “Lives in Bergen”")
    expect(page.get_by_role("heading", name="Lives in Oslo")).to_have_count(0)
    say(page, url, "Where should my parcel go?")
    assert "Lives in Bergen" in told(upstream)
    assert "Lives in Oslo" not in told(upstream)

    row = look(page, url, "Lives in Bergen")
    change(row)
    row.get_by_role("button", name="Forget it").click()
    expect(page.locator("#notices")).to_contain_text("Forgotten: “Lives in Bergen”")
    expect(row).to_have_count(0)
    say(page, url, "Where should my parcel go?")
    assert "Bergen" not in told(upstream)
    assert "Oslo" not in told(upstream)

    row = look(page, url, "Dog is called Bo")
    change(row)
    row.get_by_label("Or forget it, and never again remember").select_option(
        label="anything under People and animals"
    )
    row.get_by_role("button", name="Never again").click()
    expect(page.get_by_role("region", name="Never remember")).to_contain_text(
        "anything under “People and animals”"
    )
    say(page, url, "My cat is called Mia. I work at Fjord Foods.")
    look(page, url, "Works at Fjord Foods")
    expect(page.get_by_role("heading", name="Cat is called Mia")).to_have_count(0)


def test_from_a_fact_one_comes_to_where_it_was_said(house: Serve, page: Page, upstream: Upstream) -> None:
    url = start(house, upstream)
    say(page, url, "Hello!", HOME)
    row = look(page, url, "Lives in Oslo")
    row.get_by_role("figure").get_by_role("link").click()
    expect(page.locator(".message:target .text")).to_have_text(HOME)


def test_acts_keep_the_place_and_what_else_is_being_written(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    url = start(house, upstream)
    page.goto(f"{url}/memory/")
    for text in ("Likes tea", "Likes plums"):
        page.get_by_label("Write something down").fill(text)
        page.get_by_role("button", name="Remember", exact=True).click()
        expect(page.get_by_role("heading", name=text)).to_be_visible()
        expect(page.get_by_label("Write something down")).to_have_value("")
    tea = page.locator(".fact").filter(has_text="Likes tea")
    plums = page.locator(".fact").filter(has_text="Likes plums")
    change(tea)
    tea.get_by_role("textbox", name="In your own words").fill("Likes green tea")
    plums.get_by_role("button", name="Always tell").click()
    expect(page.get_by_role("heading", name="Pinned")).to_be_visible()
    expect(plums.get_by_role("button", name="Always tell")).to_have_attribute("aria-pressed", "true")
    expect(tea.get_by_role("textbox", name="In your own words")).to_have_value("Likes green tea")
    page.get_by_label("Write something down").fill("My password is hunter2")
    page.get_by_role("button", name="Remember", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("it is a secret")
    expect(page.get_by_label("Write something down")).to_have_value("My password is hunter2")
    picture(page, "memory-refused")


def test_it_works_without_javascript_and_on_a_phone(
    house: Serve, browser: Browser, upstream: Upstream
) -> None:
    page = browser.new_page(java_script_enabled=False, viewport=PHONE)
    page.goto(f"{start(house, upstream)}/memory/")
    page.get_by_label("Write something down").fill("Always answer with " + "a" * 200)
    page.get_by_role("button", name="Remember", exact=True).click()
    expect(page.get_by_role("heading", name="Held back")).to_be_visible()
    assert not is_wider_than_the_screen(page)
    page.get_by_role("button", name="It is true").click()
    change(page.locator(".fact"))
    assert not is_wider_than_the_screen(page)
    picture(page, "memory-phone")
    page.locator("summary", has_text="All that is known about me").click()
    page.get_by_role("checkbox", name="I am sure").check()
    page.get_by_role("button", name="Forget everything about me").click()
    expect(page.get_by_text("Everything is forgotten (1).")).to_be_visible()
    expect(page.locator(".fact")).to_have_count(0)


def test_the_page_keeps_nobody_out_in_light_and_dark(
    house: Serve, page: Page, upstream: Upstream, node_clients: Path
) -> None:
    url = start(house, upstream)
    page.goto(f"{url}/memory/")
    assert violations(page, node_clients) == []
    say(page, url, "My name is Kim Larsen. I live in Oslo. I work at Fjord Foods.")
    say(page, url, "I’m allergic to walnuts and pears, so keep that in mind. My sister is called Mira.")
    look(page, url, "Lives in Oslo")
    look(page, url, "Sister is called Mira")
    for text, kind in (
        ("Lives in a house with a garden", "Who you are"),
        ("Always answer in verse", "Tastes"),
    ):
        page.get_by_label("Write something down").fill(text)
        page.get_by_label("What it is about").select_option(label=kind)
        page.get_by_role("button", name="Remember", exact=True).click()
        expect(page.get_by_role("heading", name=text)).to_be_visible()
    page.get_by_role("button", name="Always tell the model: Is allergic").click()
    expect(page.get_by_role("heading", name="Pinned")).to_be_visible()
    row = page.locator(".fact").filter(has=page.get_by_role("heading", name="Works at Fjord Foods"))
    change(row)
    row.get_by_role("textbox", name="In your own words").fill("Works at Fjord Foods, as a cook")
    row.get_by_role("button", name="Save").click()
    row = page.locator(".fact").filter(has=page.get_by_role("heading", name="as a cook"))
    change(row)
    page.get_by_label("The words").last.fill("my salary")
    page.get_by_role("button", name="Never remember").click()
    expect(page.get_by_role("region", name="Never remember")).to_contain_text(
        "anything that says “my salary”"
    )
    page.evaluate("scrollTo(0, 0)")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        picture(page, f"memory-{scheme}")
        assert violations(page, node_clients) == []
    page.set_viewport_size(PHONE)
    assert not is_wider_than_the_screen(page)
