"""The chat page in a real browser against a real server: what a person sees, does and is told."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import Serve, ask, is_wider_than_the_screen, picture, port_of, replied, until
from tests.upstream import Upstream

# As it is run in production: PostgreSQL, and Valkey.
pytestmark = pytest.mark.once

PHONE = {"width": 360, "height": 740}
OPENING = "I’m choosing between the Zephyr 14 and the Atlas 15 laptops."
FOLLOW_UP = "Which of these did I mention first?"


@pytest.fixture
def house(house: Serve, shared: dict[str, str]) -> Serve:
    return lambda **env: house(**shared, **env)


@pytest.fixture
def welcoming(welcoming: Serve, shared: dict[str, str]) -> Serve:
    return lambda port=0, **env: welcoming(port=port, **shared, **env)


def transcript(page: Page) -> list[str]:
    """What is shown of questions and replies, in order."""
    return [text.strip() for text in page.locator("#transcript .text").all_text_contents()]


def test_a_first_conversation_is_remembered_through_reload_and_restart(welcoming: Serve, page: Page) -> None:
    server = welcoming()
    page.goto(server.url)
    expect(page.get_by_text("No model is configured.")).to_be_visible()
    picture(page, "empty")
    ask(page, OPENING)
    replied(page, 1)
    expect(page).to_have_url(re.compile(r"/c/[0-9a-f-]{36}/(#end)?$"))
    expect(page.get_by_role("navigation", name="Your conversations")).to_contain_text(OPENING)
    page.get_by_role("button", name=FOLLOW_UP).click()
    replied(page, 2)
    reply = page.locator("#turn-2 .reply")
    expect(reply).to_contain_text(f"“{OPENING}”")
    expect(reply).to_contain_text("offline answer: no model configured")
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_focused()

    page.reload()
    expect(page.locator("#turn-2 .reply")).to_contain_text(f"“{OPENING}”")
    server.stop()
    welcoming(port=port_of(server))
    page.reload()
    expect(page.locator("#turn-2 .reply")).to_contain_text(f"“{OPENING}”")
    picture(page, "chat")
    page.emulate_media(color_scheme="dark")
    picture(page, "dark")


def test_words_are_shown_before_the_last_one_is_written(house: Serve, page: Page, upstream: Upstream) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold").url)
    ask(page, OPENING)
    reply = page.locator("#turn-1 .reply .text")
    expect(reply).to_have_text("first second ")
    picture(page, "writing")
    ask(page, "Not yet sent")
    upstream.release()
    expect(reply).to_have_text("first second last")
    replied(page, 1)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_value("Not yet sent")
    expect(page.get_by_role("status")).to_have_text("first second last")
    assert len(upstream.heard) == 1


def test_a_reply_goes_on_through_a_reload_and_in_a_second_tab(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold").url)
    ask(page, OPENING)
    expect(page.locator("#turn-1 .reply .text")).to_have_text("first second ")
    page.reload()
    expect(page.locator("#turn-1 .reply .text")).to_have_text("first second ")
    second = page.context.new_page()
    second.goto(page.url)
    expect(second.locator("#turn-1 .reply .text")).to_have_text("first second ")
    upstream.release()
    for tab in (page, second):
        replied(tab, 1)
        expect(tab.locator("#turn-1 .reply .text")).to_have_text("first second last")
    # What is asked in one tab is shown in the other, word by word.
    upstream.hold()
    ask(page, FOLLOW_UP)
    expect(second.locator("#turn-2 .user-message .text")).to_have_text(FOLLOW_UP)
    expect(second.locator("#turn-2 .reply .text")).to_have_text("first second ")
    upstream.release()
    replied(second, 2)
    assert len(upstream.heard) == 2


def test_who_asks_beside_another_tab_is_told_and_shown_what_is_written(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold").url)
    upstream.release()
    ask(page, OPENING)
    replied(page, 1)
    second = page.context.new_page()
    # It hears nothing from the other tab, as on another device.
    second.add_init_script("BroadcastChannel.prototype.postMessage = () => {}")
    page.evaluate("BroadcastChannel.prototype.postMessage = () => {}")
    second.goto(page.url)
    upstream.hold()
    ask(page, FOLLOW_UP)
    expect(page.locator("#turn-2 .reply .text")).to_have_text("first second ")
    ask(second, "And now?")
    expect(second.get_by_role("alert")).to_contain_text("A reply is still being written here.")
    expect(second.get_by_role("textbox", name="Message", exact=True)).to_have_value("And now?")
    expect(second.locator("#turn-2 .reply .text")).to_have_text("first second ")
    expect(second.get_by_role("status")).to_have_text("")
    upstream.release()
    replied(second, 2)


def test_a_reply_can_be_stopped_and_what_there_is_of_it_stays(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold").url)
    ask(page, OPENING)
    expect(page.locator("#turn-1 .reply .text")).to_have_text("first second ")
    page.keyboard.press("Escape")
    expect(page.locator("#turn-1")).to_contain_text("Stopped.")
    expect(page.locator("#turn-1 .reply .text")).to_have_text("first second")
    picture(page, "stopped")
    upstream.release()
    page.get_by_role("button", name="Try again").last.click()
    replied(page, 2)
    expect(page.locator("#turn-2 .reply .text")).to_have_text("first second last")
    expect(page.locator("#turn-2 .user-message .text")).to_have_text(OPENING)


def test_answers_stand_side_by_side_and_a_question_can_be_edited(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="echo").url)
    ask(page, OPENING)
    replied(page, 1)
    ask(page, FOLLOW_UP)
    replied(page, 2)
    page.locator("#turn-2").get_by_role("button", name="Answer once more").click()
    replied(page, 3)
    alternatives = page.locator("#turn-3").get_by_role("group", name="Alternatives")
    expect(alternatives).to_contain_text("2/ of 2")
    alternatives.get_by_role("button", name="The previous alternative").click()
    expect(page.locator("#turn-2")).to_be_visible()
    picture(page, "alternatives")
    page.locator("#turn-1 .user-message").hover()
    page.locator("#turn-1 .edit summary").click()
    page.locator("#turn-1").get_by_role("textbox").fill("I carry the Meridian 13.")
    picture(page, "editing")
    page.get_by_role("button", name="Send instead").click()
    replied(page, 4)
    assert transcript(page)[0] == "I carry the Meridian 13."
    assert len(transcript(page)) == 2
    assert FOLLOW_UP not in str(upstream.heard[-1])
    page.locator("#turn-4").get_by_role("button", name="The previous alternative").click()
    expect(page.locator("#turn-3")).to_be_visible()


def test_a_conversation_goes_on_elsewhere(house: Serve, page: Page) -> None:
    page.goto(house().url)
    ask(page, OPENING)
    replied(page, 1)
    here = page.url
    ask(page, FOLLOW_UP)
    replied(page, 2)
    page.locator("#turn-1").get_by_role("button", name="Go on from here").click()
    expect(page.locator("#turn-2")).to_have_count(0)
    assert page.url.partition("#")[0] != here.partition("#")[0]
    ask(page, "And now?")
    replied(page, 2)
    assert len(transcript(page)) == 4
    page.goto(here)
    assert transcript(page)[2] == FOLLOW_UP


def test_a_thumb_and_a_note(house: Serve, page: Page) -> None:
    page.goto(house().url)
    ask(page, OPENING)
    replied(page, 1)
    page.get_by_role("button", name="Bad reply").click()
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")
    page.get_by_text("Say why").click()
    page.get_by_role("textbox", name="What was good or bad").fill("It knows nothing.")
    page.get_by_role("button", name="Save the note").click()
    expect(page.get_by_text("“It knows nothing.”")).to_be_visible()
    picture(page, "feedback")


def test_a_file_is_handed_over_and_its_words_reach_the_model(
    house: Serve, page: Page, upstream: Upstream, tmp_path: Path
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="echo").url)
    page.get_by_label("Attach an image or a text file").first.set_input_files(
        {"name": "plan.txt", "mimeType": "text/plain", "buffer": b"The password is walnut."}
    )
    expect(page.locator("#chosen")).to_contain_text("plan.txt")
    picture(page, "attaching")
    ask(page, "What does it say?")
    replied(page, 1)
    expect(page.locator("#turn-1 .files")).to_contain_text("plan.txt")
    expect(page.locator("#chosen")).to_be_hidden()
    assert "The password is walnut." in str(upstream.heard[-1])
    picture(page, "attached")


def test_a_temporary_conversation_says_so(house: Serve, page: Page) -> None:
    page.goto(house().url)
    page.get_by_role("checkbox", name="Temporary").check()
    ask(page, OPENING)
    replied(page, 1)
    expect(page.get_by_text("Temporary: nothing is kept")).to_be_visible()
    ask(page, FOLLOW_UP)
    replied(page, 2)
    expect(page.locator("#turn-2 .reply")).to_contain_text(f"“{OPENING}”")
    picture(page, "temporary")


def test_the_panel_shows_what_the_model_saw(house: Serve, page: Page, upstream: Upstream) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="echo").url)
    ask(page, OPENING)
    replied(page, 1)
    ask(page, FOLLOW_UP)
    expect(page.locator("#turn-2 .reply .text")).to_contain_text(f"user: {OPENING}")
    expect(page.locator("#turn-2 .reply")).not_to_contain_text("offline answer")
    replied(page, 2)
    page.locator("#turn-2").get_by_role("link", name="What the model saw").click()
    panel = page.get_by_role("complementary", name="What the model saw")
    panel.get_by_text("Earlier messages").click()
    expect(panel.get_by_text(OPENING, exact=True)).to_be_visible()
    picture(page, "inspector")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()


def tell(page: Page, count: int) -> None:
    """That many messages of the visitor's, without a model."""
    messages = [{"role": "user", "content": f"message {n}"} for n in range(1, count + 1)]
    told = page.request.post(
        re.sub(r"/c/([^/]+)/.*", r"/api/v1/sessions/\1/messages/", page.url),
        data={"messages": messages},
        headers={"X-CSRFToken": page.locator("#act [name=csrfmiddlewaretoken]").input_value()},
    )
    assert told.status == 201, told.text()


def test_older_messages_come_as_one_scrolls(house: Serve, page: Page) -> None:
    page.goto(house().url)
    ask(page, OPENING)
    replied(page, 1)
    tell(page, 200)
    page.reload()
    expect(page.locator("#m202 .text")).to_have_text("message 200")
    seen = page.locator("#m160")
    seen.scroll_into_view_if_needed()
    expect(page.locator("#m110")).to_be_attached()
    expect(seen).to_be_in_viewport()
    page.locator("#m104").scroll_into_view_if_needed()
    expect(page.locator("#m60")).to_be_attached()
    ask(page, FOLLOW_UP)
    expect(page.locator("#turn-202 .reply .text")).not_to_be_empty()
    # What was fetched stays, in order and once.
    places = page.locator("#transcript .position").all_text_contents()
    assert [int(place) for place in places] == sorted({int(place) for place in places})


def test_a_cleared_conversation_shows_nothing_of_it_until_the_clear_is_undone(
    house: Serve, page: Page
) -> None:
    """Review 21: one click cleared the history, and there was no way back."""
    page.goto(house().url)
    ask(page, OPENING)
    replied(page, 1)
    tell(page, 120)
    page.reload()
    # Older messages are fetched, which a page that is shown anew keeps otherwise.
    page.locator("#m80").scroll_into_view_if_needed()
    expect(page.locator("#m40")).to_be_attached()
    page.get_by_role("button", name="Rename, archive, clear or delete").click()
    page.get_by_role("button", name="Clear history").click()
    expect(page.locator(".exchange")).to_have_count(0)
    expect(page.get_by_text("Cleared 122 messages.")).to_be_in_viewport(ratio=1)
    picture(page, "cleared")
    ask(page, FOLLOW_UP)
    expect(page.locator("#m124")).not_to_contain_text("Zephyr")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#m122 .text")).to_have_text("message 120")
    expect(page.locator("#m123 .text")).to_have_text(FOLLOW_UP)
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_it_works_without_javascript(house: Serve, browser: Browser) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(house().url)
    for turn, text in enumerate([OPENING, FOLLOW_UP], 1):
        page.get_by_role("textbox", name="Message", exact=True).fill(text)
        page.get_by_role("button", name="Send").click()
        replied(page, turn)
    expect(page.locator("#turn-2 .reply")).to_contain_text(f"“{OPENING}”")
    page.locator("#turn-2").get_by_role("button", name="Answer once more").click()
    replied(page, 3)
    page.locator("#turn-3").get_by_role("button", name="The previous alternative").click()
    replied(page, 2)
    page.locator("#turn-2").get_by_role("link", name="What the model saw").click()
    page.get_by_text("Earlier messages").click()
    expect(page.locator("#main").get_by_text(OPENING, exact=True)).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Rename, archive, clear or delete").click()
    page.get_by_role("button", name="Clear history").click()
    expect(page.locator(".exchange")).to_have_count(0)


def test_everything_can_be_done_with_the_keyboard(house: Serve, page: Page) -> None:
    page.goto(house().url)
    page.keyboard.type(OPENING)
    page.keyboard.press("Enter")
    replied(page, 1)
    tab_to(page, "Answer once more")
    page.keyboard.press("Enter")
    replied(page, 2)
    tab_to(page, "Good reply")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    # Who pressed a button finds themselves at the same one.
    expect(page.get_by_role("button", name="Good reply")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the button of this name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == name:
            return
    raise AssertionError(f"Tab never reached {name!r}.")


def test_on_a_phone_nothing_scrolls_sideways(house: Serve, page: Page) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(house().url)
    assert not is_wider_than_the_screen(page)
    ask(page, "Unbroken" * 40)
    replied(page, 1)
    ask(page, FOLLOW_UP)
    replied(page, 2)
    assert not is_wider_than_the_screen(page)
    picture(page, "phone")
    page.locator("#turn-2").get_by_role("link", name="What the model saw").click()
    expect(page.get_by_role("complementary", name="What the model saw")).to_be_visible()
    assert not is_wider_than_the_screen(page)
    picture(page, "phone-inspector")
    page.keyboard.press("Escape")
    conversations = page.get_by_role("navigation", name="Your conversations")
    expect(conversations).to_be_hidden()
    page.get_by_role("button", name="Conversations").click()
    expect(conversations).to_be_visible()
    picture(page, "phone-conversations")
    page.keyboard.press("Escape")
    expect(conversations).to_be_hidden()


def test_a_failing_model_is_told_in_words_and_can_be_asked_again(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="drop").url)
    ask(page, OPENING)
    expect(page.locator("#turn-1")).to_contain_text("Not the whole reply.")
    expect(page.locator("#turn-1 .reply .text")).to_have_text("one two ")
    picture(page, "failed")
    page.locator("#turn-1").get_by_role("button", name="Try again").click()
    expect(page.locator("#turn-2 .user-message .text")).to_have_text(OPENING)
    expect(page.locator("#turn-2")).to_contain_text("Not the whole reply.")


def test_a_server_that_is_gone_costs_nobody_their_words(welcoming: Serve, page: Page) -> None:
    server = welcoming()
    page.goto(server.url)
    ask(page, OPENING)
    replied(page, 1)
    server.stop()
    ask(page, FOLLOW_UP)
    expect(page.get_by_role("alert")).to_contain_text("can’t be reached")
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_value(FOLLOW_UP)
    picture(page, "unreachable")
    welcoming(port=port_of(server))
    page.get_by_role("button", name="Try again").click()
    replied(page, 2)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_page_goes_on_by_itself_when_its_server_is_back(
    welcoming: Serve, page: Page, upstream: Upstream
) -> None:
    env = {"OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": "hold", "CONVO_LEASE_SECONDS": "2"}
    server = welcoming(**env)
    page.goto(server.url)
    ask(page, OPENING)
    expect(page.locator("#turn-1 .reply .text")).to_have_text("first second ")
    server.kill()
    expect(page.get_by_role("alert")).to_contain_text("The connection was lost.")
    picture(page, "broken")
    welcoming(port=port_of(server), **env)
    expect(page.locator("#turn-1")).to_contain_text("stopped before it was complete", timeout=20_000)
    expect(page.get_by_role("alert")).to_be_hidden()
    upstream.release()
    page.locator("#turn-1").get_by_role("button", name="Try again").click()
    replied(page, 2)
    expect(page.locator("#turn-2 .reply .text")).to_have_text("first second last")


def test_a_refused_message_goes_back_into_the_box(house: Serve, page: Page, tmp_path: Path) -> None:
    brief = tmp_path / "agents.yaml"
    brief.write_text("default: brief\nagents:\n  brief:\n    context_tokens: 100\n")
    page.goto(house(CONVO_AGENTS_FILE=str(brief)).url)
    long = "walnuts " * 200
    ask(page, long)
    expect(page.get_by_role("alert")).to_contain_text("Shorten the message")
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_value(long)
    expect(page.get_by_text("A conversation that remembers")).to_be_visible()
    picture(page, "refused")
    # The refusal made a guest, whose next message is taken.
    ask(page, "walnuts")
    replied(page, 1)


def test_enter_sends_and_shift_enter_begins_a_line(house: Serve, page: Page) -> None:
    page.goto(house().url)
    box = page.get_by_role("textbox", name="Message", exact=True)
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
    assert page.locator("#turn-1 .user-message .text").text_content() == "one\ntwo"


def test_a_reader_who_scrolled_up_is_left_where_they_are(
    house: Serve, page: Page, upstream: Upstream
) -> None:
    page.goto(house(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="endless-4").url)
    ask(page, OPENING)
    written = "document.querySelector('.reply .text').textContent.length"
    until(page, "document.documentElement.scrollHeight > 2 * innerHeight")
    until(page, "innerHeight + scrollY > document.documentElement.scrollHeight - 60")
    page.mouse.move(640, 300)
    page.mouse.wheel(0, -500)
    until(page, "innerHeight + scrollY < document.documentElement.scrollHeight - 300")
    here, length = page.evaluate("scrollY"), page.evaluate(written)
    until(page, f"{written} > {length} + 3000")
    assert page.evaluate("scrollY") <= here
