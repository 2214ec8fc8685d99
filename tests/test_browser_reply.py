"""Review 20 and 21: replies in a real browser, read on a desk and in a hand, copied, and asked for anew."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import Serve, ask, is_wider_than_the_screen, picture, replied, until
from tests.upstream import Upstream

pytestmark = pytest.mark.once

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
AGENTS = "default: one\nagents:\n  one:\n    display_name: Number One\n  two:\n    display_name: Number Two\n"
REPLY = """The **Zephyr** is lighter.

| Responsibility | Manufacturer | Distributor | International |
|---|---|---|---|
| considerably | comfortable | responsibility | warranty |

```python
def one():
    return 1


one()
```

```
second
```"""
# Does every word of the table stand on one line?
WORDS_ARE_WHOLE = """[...document.querySelectorAll(".prose :is(th, td)")].every((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return range.getClientRects().length === 1;
})"""
LINE_HEIGHT = """(code) => {
  const style = getComputedStyle(code);
  const inside = code.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
  return inside / code.textContent.trimEnd().split("\\n").length / parseFloat(style.fontSize);
}"""
# A name of this machine for which browsers make no exception: over plain HTTP it is not secure.
PLAIN = "plain.test"


@pytest.fixture
def url(house: Serve, upstream: Upstream) -> str:
    """A server whose model says what it is told."""
    hosts = f"127.0.0.1,{PLAIN}"
    return house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="parrot", ALLOWED_HOSTS=hosts).url


@pytest.mark.parametrize("is_secure", [True, False], ids=["secure", "plain HTTP"])
def test_a_reply_is_copied_as_its_markdown_and_code_as_it_stands(
    url: str, page: Page, is_secure: bool
) -> None:
    page.goto(url if is_secure else url.replace("127.0.0.1", PLAIN))
    assert page.evaluate("Boolean(navigator.clipboard)") is is_secure
    ask(page, REPLY)
    replied(page, 1)
    box = page.get_by_role("textbox", name="Message", exact=True)
    copies = {
        page.get_by_role("button", name="Copy the reply"): REPLY,
        page.get_by_role("button", name="Copy the code").first: "def one():\n    return 1\n\n\none()\n",
        page.get_by_role("button", name="Copy the code").last: "second\n",
    }
    for button, text in copies.items():
        button.click()
        # Said to those who see it, and to those who hear it.
        expect(page.get_by_role("status")).to_have_text("Copied")
        until(page, "getComputedStyle(document.querySelector('.done'), '::after').content === '\"Copied\"'")
        picture(page, "copied")
        box.fill("")
        box.focus()
        page.keyboard.press("ControlOrMeta+V")
        expect(box).to_have_value(text)
        expect(page.locator(".done")).to_have_count(0)
        page.evaluate("document.getElementById('news').textContent = ''")


def test_no_empty_box_stands_before_the_reply_of_a_model_that_reasons(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="reasoning").url)
    ask(page, "Say hello.")
    replied(page, 1)
    for _ in ("live", "after a reload"):
        expect(page.locator("#turn-1 .message")).to_have_count(2)
        expect(page.locator("#turn-1 .text")).to_have_count(2)
        assert all(text.strip() for text in page.locator("#turn-1 .text").all_text_contents())
        page.reload()
    # The reasoning has a position of its own, so a fork from here takes the reply along.
    page.get_by_role("button", name="Go on from here").click()
    expect(page.locator("#turn-1 .reply .text")).not_to_be_empty()


def test_enter_beside_a_reply_that_is_being_written_says_why_nothing_is_sent(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold").url)
    ask(page, "One.")
    expect(page.locator("#turn-1 .reply .text")).to_have_text("first second ")
    expect(page.get_by_role("alert")).to_be_hidden()
    ask(page, "Two.")
    expect(page.get_by_role("alert")).to_contain_text("A reply is still being written, so nothing was sent.")
    picture(page, "wait")
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_value("Two.")
    upstream.release()
    replied(page, 1)
    # It says so no longer than it holds.
    expect(page.get_by_role("alert")).to_be_hidden()
    page.keyboard.press("Enter")
    replied(page, 2)
    assert len(upstream.heard) == 2


def test_who_is_chosen_answers_once_more(
    house: Serve, page: Page, upstream: Upstream, tmp_path: Path
) -> None:
    agents = tmp_path / "agents.yaml"
    agents.write_text(AGENTS)
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="echo", CONVO_AGENTS_FILE=str(agents)).url)
    ask(page, "One.")
    replied(page, 1)
    expect(page.locator("#turn-1 .reply .who")).to_contain_text("Number One")
    page.get_by_label("Who answers").select_option("two")
    page.get_by_role("button", name="Answer once more").click()
    replied(page, 2)
    expect(page.locator("#turn-2 .reply .who")).to_contain_text("Number Two")
    expect(page.get_by_label("Who answers")).to_have_value("two")
    # The page is shown anew once the reply has ended, with what was opened closed again.
    page.wait_for_load_state("networkidle")
    page.get_by_label("Who answers").select_option("one")
    page.locator("#turn-2 .user-message").hover()
    page.locator("#turn-2 .edit summary").click()
    page.locator("#turn-2").get_by_role("textbox").fill("Three.")
    page.get_by_role("button", name="Send instead").click()
    replied(page, 3)
    expect(page.locator("#turn-3 .reply .who")).to_contain_text("Number One")


def test_the_panel_takes_the_focus_and_gives_it_back(url: str, page: Page) -> None:
    page.goto(url)
    ask(page, "One.")
    replied(page, 1)
    ask(page, "Two.")
    replied(page, 2)
    panel = page.get_by_role("complementary", name="What the model saw")
    link = page.locator("#turn-2 .account")
    link.focus()
    page.keyboard.press("Enter")
    expect(panel).to_be_focused()
    page.keyboard.press("Tab")
    expect(panel.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Enter")
    expect(panel).to_be_hidden()
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(panel).to_be_focused()
    page.keyboard.press("Escape")
    expect(link).to_be_focused()


def test_say_why_has_a_row_of_its_own(url: str, page: Page) -> None:
    page.goto(url)
    ask(page, "One.")
    replied(page, 1)
    page.get_by_role("button", name="Bad reply").click()
    page.get_by_text("Say why").click()
    icons = page.get_by_role("button", name="Bad reply").bounding_box()
    why, note = page.get_by_text("Say why").bounding_box(), page.locator(".note-form textarea").bounding_box()
    assert icons
    assert why
    assert note
    assert icons["y"] + icons["height"] <= why["y"]
    assert why["y"] + why["height"] <= note["y"]
    assert note["width"] > 500


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desk", "hand"])
def test_tables_and_code_are_read_as_they_were_written(
    url: str, browser: Browser, size: str, scheme: str
) -> None:
    options = PHONE if size == "hand" else {"viewport": {"width": 1280, "height": 900}}
    page = browser.new_context(color_scheme=scheme, **options).new_page()  # type: ignore[arg-type]
    page.goto(url)
    ask(page, REPLY)
    replied(page, 1)
    code, copy = page.locator(".prose pre code").first, page.get_by_role("button", name="Copy the code").first
    expect(copy).to_have_css("opacity", "1" if size == "hand" else "0")
    code.hover()
    expect(copy).to_have_css("opacity", "1")
    assert page.evaluate(WORDS_ARE_WHOLE)
    assert 1.3 < code.evaluate(LINE_HEIGHT) < 1.7
    assert not is_wider_than_the_screen(page)
    picture(page, f"reply-{size}-{scheme}")


def test_a_wrong_address_is_the_products_own_page_with_debug_too(house: Serve, page: Page) -> None:
    url = house(DEBUG="1").url
    for address in ("/nowhere/", "/memory", "/static/convo/nothing.css", "/a%0Ab/"):
        answer = page.goto(url + address)
        assert answer
        assert answer.status == 404
        expect(page.get_by_role("heading", name="I can’t recall that.")).to_be_visible()
    assert page.request.post(f"{url}/chat/completions", data={}).status == 404
    # Programs are told in their own way, and what is there is there.
    assert page.request.get(f"{url}/api/v1/nothing/").json()["error"]["code"] == "not_found"
    assert page.request.get(f"{url}/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    assert page.request.get(f"{url}/memory/").status == 200


def test_a_page_that_names_no_icon_has_one(house: Serve, page: Page) -> None:
    found = page.request.get(f"{house().url}/favicon.ico")
    assert found.headers["content-type"].startswith("image/svg+xml")
