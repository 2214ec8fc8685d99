"""The chat page in a real browser against a real server: what a person sees, does and is told."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.servers import ROOT, Server
from tests.upstream import Upstream

pytestmark = pytest.mark.once

Serve = Callable[..., Server]

ARTIFACTS = ROOT / "test-artifacts"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PHONE = {"width": 360, "height": 740}
OPENING = "I’m choosing between the Zephyr 14 and the Atlas 15 laptops."
FOLLOW_UP = "Which of these did I mention first?"
STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"


@pytest.fixture
def browser(serve: Serve, share: Serve, chromium: str) -> Iterator[Browser]:
    """Chromium; it ends before the database is emptied, as its event loop would forbid that."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.new_page(viewport={"width": 1280, "height": 860})


# Anybody is a guest.
GUESTS = {"DEBUG": "1", "CONVO_OFFLINE_WORD_SECONDS": "0.005"}


@pytest.fixture
def welcoming(serve: Serve) -> Serve:
    """Starts servers for guests, which a test may stop."""

    def start(*, port: int = 0, **env: str) -> Server:
        return serve(port=port, **{**GUESTS, **env})

    return start


@pytest.fixture
def house(share: Serve) -> Serve:
    """Servers for guests, which stay for the next test."""

    def find(**env: str) -> Server:
        return share(**{**GUESTS, **env})

    return find


def ask(page: Page, text: str) -> None:
    """Type it and send it with the keyboard alone."""
    box = page.get_by_role("textbox", name="Message")
    box.fill(text)
    box.press("Enter")


def replied(page: Page, turn: int) -> None:
    expect(page.locator(f"#turn-{turn} .said .text")).not_to_be_empty()


def picture(page: Page, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


def port_of(server: Server) -> int:
    return urlsplit(server.url).port or 0


def is_wider_than_the_screen(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def test_a_first_conversation_is_remembered_through_reload_and_restart(welcoming: Serve, page: Page) -> None:
    server = welcoming()
    page.goto(server.url)
    expect(page.get_by_text("No model is configured.")).to_be_visible()
    picture(page, "empty")
    ask(page, OPENING)
    replied(page, 1)
    expect(page).to_have_url(re.compile(r"/c/[0-9a-f-]{36}/$"))
    expect(page.get_by_role("navigation", name="Your conversations")).to_contain_text(OPENING)
    page.get_by_role("button", name=FOLLOW_UP).click()
    replied(page, 2)
    reply = page.locator("#turn-2 .said")
    expect(reply).to_contain_text(f"“{OPENING}”")
    expect(reply).to_contain_text("offline answer: no model configured")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()

    page.reload()
    expect(page.locator("#turn-2 .said")).to_contain_text(f"“{OPENING}”")
    server.stop()
    welcoming(port=port_of(server))
    page.reload()
    expect(page.locator("#turn-2 .said")).to_contain_text(f"“{OPENING}”")
    page.locator("#turn-2 summary").click()
    expect(page.get_by_role("row", name="Earlier messages")).to_contain_text("1–2")
    picture(page, "chat")
    page.emulate_media(color_scheme="dark")
    picture(page, "dark")


def test_words_are_shown_before_the_last_one_is_written(house: Serve, page: Page, upstream: Upstream) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold").url)
    ask(page, OPENING)
    reply = page.locator(".exchange .said .text")
    expect(reply).to_have_text("first second ")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    ask(page, "Not yet sent")
    upstream.release()
    expect(reply).to_have_text("first second last")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Not yet sent")
    expect(page.get_by_role("status")).to_have_text("first second last")
    assert len(upstream.heard) == 1


def test_the_model_is_shown_what_came_before_and_the_page_says_so(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="echo").url)
    ask(page, OPENING)
    replied(page, 1)
    ask(page, FOLLOW_UP)
    expect(page.locator("#turn-2 .said .text")).to_contain_text(f"user: {OPENING}")
    expect(page.locator("#turn-2 .said")).not_to_contain_text("offline answer")
    page.locator("#turn-2 summary").click()
    expect(page.get_by_role("row", name="Earlier messages")).to_contain_text("1–2")


def test_it_works_without_javascript(house: Serve, browser: Browser) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(house().url)
    for turn, text in enumerate([OPENING, FOLLOW_UP], 1):
        page.get_by_role("textbox", name="Message").fill(text)
        page.get_by_role("button", name="Send").click()
        replied(page, turn)
    expect(page.locator("#turn-2 .said")).to_contain_text(f"“{OPENING}”")
    page.locator("#turn-2 summary").click()
    expect(page.get_by_role("row", name="Question")).to_be_visible()
    page.get_by_role("button", name="Clear or delete").click()
    page.get_by_role("button", name="Delete conversation").click()
    expect(page.get_by_role("navigation", name="Your conversations")).not_to_contain_text(OPENING)


def test_on_a_phone_nothing_scrolls_sideways(house: Serve, page: Page) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(house().url)
    assert not is_wider_than_the_screen(page)
    ask(page, "Unbroken" * 40)
    replied(page, 1)
    ask(page, FOLLOW_UP)
    replied(page, 2)
    page.locator("#turn-2 summary").click()
    assert not is_wider_than_the_screen(page)
    picture(page, "phone")
    conversations = page.get_by_role("navigation", name="Your conversations")
    expect(conversations).to_be_hidden()
    page.get_by_role("button", name="Conversations").click()
    expect(conversations).to_be_visible()
    picture(page, "phone-conversations")
    page.keyboard.press("Escape")
    expect(conversations).to_be_hidden()


def test_markup_is_shown_as_text_and_nothing_runs_or_is_fetched_from_outside(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    server = house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="echo")
    asked: list[str] = []
    trouble: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.route("**/*", strictly)
    page.goto(server.url)
    attack = "<script>window.ran = 1</script><img src='//example.invalid/x' onerror='window.ran = 1'>"
    ask(page, attack)
    replied(page, 1)
    for where in (page.locator("#turn-1 .asked .text"), page.locator("#turn-1 .said .text")):
        expect(where).to_contain_text(attack)
    page.reload()
    expect(page.locator("#turn-1 .said .text")).to_contain_text(attack)
    assert page.evaluate("window.ran") is None
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(server.url).netloc}
    assert trouble == []


def strictly(route: Route) -> None:
    """Serve it under the policy that the pages are written for."""
    response = route.fetch()
    route.fulfill(response=response, headers={**response.headers, "content-security-policy": STRICT})


def test_a_failing_model_is_told_in_words_and_can_be_asked_again(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="drop").url)
    ask(page, OPENING)
    expect(page.locator("#turn-1")).to_contain_text("Not the whole reply.")
    expect(page.locator("#turn-1 .said .text")).to_have_text("one two ")
    picture(page, "failed")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("#turn-2 .asked .text")).to_have_text(OPENING)
    expect(page.locator("#turn-2")).to_contain_text("Not the whole reply.")


def test_a_server_that_is_gone_costs_nobody_their_words(welcoming: Serve, page: Page) -> None:
    server = welcoming()
    page.goto(server.url)
    ask(page, OPENING)
    replied(page, 1)
    server.stop()
    ask(page, FOLLOW_UP)
    expect(page.get_by_role("alert")).to_contain_text("can’t be reached")
    expect(page.get_by_role("textbox", name="Message")).to_have_value(FOLLOW_UP)
    picture(page, "unreachable")
    welcoming(port=port_of(server))
    page.get_by_role("button", name="Try again").click()
    replied(page, 2)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_stream_that_breaks_is_told_honestly(welcoming: Serve, page: Page, upstream: Upstream) -> None:
    server = welcoming(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold")
    page.goto(server.url)
    ask(page, OPENING)
    expect(page.locator(".exchange .said .text")).to_have_text("first second ")
    server.kill()
    expect(page.get_by_role("alert")).to_contain_text("The connection broke before the reply was complete.")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_a_refused_message_goes_back_into_the_box(house: Serve, page: Page, tmp_path: Path) -> None:
    brief = tmp_path / "agents.yaml"
    brief.write_text("default: brief\nagents:\n  brief:\n    context_tokens: 100\n")
    page.goto(house(CONVO_AGENTS_FILE=str(brief)).url)
    long = "walnuts " * 200
    ask(page, long)
    expect(page.get_by_role("alert")).to_contain_text("Shorten the message")
    expect(page.get_by_role("textbox", name="Message")).to_have_value(long.strip())
    expect(page.get_by_text("A conversation that remembers")).to_be_visible()
    picture(page, "refused")
    # The refusal made a guest, whose next message is taken.
    ask(page, "walnuts")
    replied(page, 1)


def test_enter_sends_and_shift_enter_begins_a_line(house: Serve, page: Page) -> None:
    page.goto(house().url)
    box = page.get_by_role("textbox", name="Message")
    box.focus()
    low = box.bounding_box()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    tall = box.bounding_box()
    assert low
    assert tall
    assert tall["height"] > low["height"]
    page.keyboard.press("Enter")
    replied(page, 1)
    assert page.locator("#turn-1 .asked .text").text_content() == "one\ntwo"


def test_a_reader_who_scrolled_up_is_left_where_they_are(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="endless-4").url)
    ask(page, OPENING)
    written = "document.querySelector('.said .text').textContent.length"
    page.wait_for_function("document.documentElement.scrollHeight > 2 * innerHeight")
    page.wait_for_function("innerHeight + scrollY > document.documentElement.scrollHeight - 60")
    page.mouse.move(640, 300)
    page.mouse.wheel(0, -500)
    page.wait_for_function("innerHeight + scrollY < document.documentElement.scrollHeight - 300")
    here, length = page.evaluate("scrollY"), page.evaluate(written)
    page.wait_for_function(f"{written} > {length} + 3000")
    assert page.evaluate("scrollY") <= here
