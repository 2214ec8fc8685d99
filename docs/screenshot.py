"""Walk the demo on a running server and save how it looks: `python docs/screenshot.py URL [FOLDER]`.

The pictures of the README and the docs are made by this, so that they can't age: chat.png, and dark.png for
readers who prefer it.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

EARLIER = [
    "My sister Mira visits on Sunday. She is allergic to walnuts.",
    "Our standup moves to 9:45, and the demo is on Thursday.",
]
OPENING = "I’m choosing between the Zephyr 14 and the Atlas 15 laptops."
FOLLOW_UP = "Which of these did I mention first?"


def walk(page: Page, url: str, folder: Path) -> None:
    """Have the conversations as a newcomer would, and take the pictures at their end."""
    for text in [*EARLIER, OPENING]:
        page.goto(url)
        ask(page, text)
    ask(page, FOLLOW_UP)
    page.locator("summary").last.click()
    page.get_by_role("textbox", name="Message").focus()
    for name, scheme in [("chat", "light"), ("dark", "dark")]:
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=folder / f"{name}.png", animations="disabled", caret="hide")


def ask(page: Page, text: str) -> None:
    """Send a message and wait until its reply is complete."""
    replies = page.locator("article[id]")
    before = replies.count()
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")
    replies.nth(before).wait_for()


if __name__ == "__main__":
    target = Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images")
    target.mkdir(parents=True, exist_ok=True)
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        size = {"width": 1280, "height": 900}
        walk(browser.new_page(viewport=size, device_scale_factor=2), sys.argv[1], target)
