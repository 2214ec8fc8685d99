"""One visitor’s day, from the first visit to an account: every step stands on the ones before."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browsing import Serve, ask, picture, replied
from tests.servers import WORKS
from tests.upstream import Upstream

# As it is run in production: PostgreSQL, and Valkey.
pytestmark = pytest.mark.once

HOME = "My name is Ada, and I live in Bergen."
QUESTION = "Which bus do I take?"


def prompt(upstream: Upstream) -> str:
    """All that the model was told last."""
    return "\n".join(str(message["content"]) for message in upstream.last["messages"])


def reply(page: Page, turn: int) -> Locator:
    return page.locator(f"#turn-{turn} .reply .text")


def test_a_day_with_convo(house: Serve, shared: dict[str, str], page: Page, upstream: Upstream) -> None:
    env = {"OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": "hold", "CONVO_BACKGROUND_MODEL": "offline"}
    server = house(**shared, **env, **WORKS)
    upstream.release()

    # A first visit, and a follow-up that is answered with what came before.
    page.goto(server.url)
    ask(page, HOME)
    replied(page, 1)
    ask(page, QUESTION)
    replied(page, 2)
    assert HOME in prompt(upstream)

    # A reload in the middle of a reply, and a second tab.
    upstream.hold()
    ask(page, "And how long does it take?")
    expect(reply(page, 3)).to_have_text("first second ")
    page.reload()
    second = page.context.new_page()
    second.goto(page.url)
    for tab in (page, second):
        expect(reply(tab, 3)).to_have_text("first second ")
    upstream.release()
    for tab in (page, second):
        replied(tab, 3)
        expect(reply(tab, 3)).to_have_text("first second last")
    second.close()

    # Stop; another answer, and back to the first.
    upstream.hold()
    ask(page, "Tell me everything about buses.")
    expect(reply(page, 4)).to_have_text("first second ")
    page.get_by_role("button", name="Stop the reply").click()
    expect(page.locator("#turn-4")).to_contain_text("Stopped.")
    upstream.release()
    page.locator("#turn-3").get_by_role("button", name="Answer once more").click()
    replied(page, 5)
    page.locator("#turn-5").get_by_role("button", name="The previous alternative").click()
    expect(page.locator("#turn-3")).to_be_visible()

    # Another question in the place of the second; and on from its answer, elsewhere.
    page.locator("#turn-2 .edit summary").click()
    page.locator("#turn-2").get_by_role("textbox").fill("Which tram do I take?")
    page.get_by_role("button", name="Send instead").click()
    replied(page, 6)
    assert QUESTION not in prompt(upstream)
    here = page.url
    page.locator("#turn-6").get_by_role("button", name="Go on from here").click()
    expect(page).not_to_have_url(re.compile(re.escape(here.partition("#")[0])))

    # Search finds it, and leads there.
    page.get_by_role("searchbox", name="Search your conversations").fill("Bergen")
    page.keyboard.press("Enter")
    expect(page.locator("mark").first).to_have_text("Bergen")
    picture(page, "walk-search")

    # What was learned is forgotten, and gone from the next prompt.
    learned = page.get_by_role("heading", name="Lives in Bergen")
    page.goto(f"{server.url}/memory/")
    expect(learned).to_have_count(1)
    page.goto(server.url)
    ask(page, QUESTION)
    replied(page, 1)
    assert "Lives in Bergen" in prompt(upstream)
    page.goto(f"{server.url}/memory/")
    row = page.locator(".fact").filter(has=learned)
    row.locator("summary", has_text="Change").click()
    row.get_by_role("button", name="Forget it").click()
    expect(learned).to_have_count(0)
    page.goto(server.url)
    ask(page, QUESTION)
    replied(page, 1)
    assert "Bergen" not in prompt(upstream)

    # An account keeps it all.
    count = page.locator("#conversations li").count()
    page.get_by_role("link", name="Sign in to keep them").click()
    page.get_by_role("link", name="Make one").click()
    page.get_by_label("Username").fill("ada")
    for field in page.locator("input[type=password]").all():
        field.fill("a long walk to the tram")
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_text("Signed in as ada")).to_be_visible()
    expect(page.locator("#conversations li")).to_have_count(count)
    picture(page, "walk-account")
