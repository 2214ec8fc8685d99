"""Take the pictures of the README and the docs, anew: `python docs/screenshots.py [FOLDER]`.

A server of its own, with what `manage.py seed_demo` makes up, so that the pictures can't age.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SIZE = {"width": 1280, "height": 900}
# Everything in daylight, and this at night as well.
ALSO_DARK = "chat"


@contextmanager
def demo() -> Iterator[tuple[str, str]]:
    """The address of a server with the demo's person, and their password."""
    with tempfile.TemporaryDirectory() as folder:
        given = {
            "DEBUG": "1",
            "CONVO_DOTENV": "0",
            "SECRET_KEY": "for pictures only, 0123456789-abcdefghijklmnop",
        }
        env = {**os.environ, **given, "DATABASE_URL": f"sqlite:///{folder}/demo.sqlite3"}

        def manage(*words: str) -> list[str]:
            return [sys.executable, str(ROOT / "manage.py"), *words]

        subprocess.run(manage("migrate", "--verbosity", "0"), env=env, check=True)
        seeded = subprocess.run(
            manage("seed_demo", "--staff"), env=env, check=True, stdout=subprocess.PIPE, text=True
        )
        serving = subprocess.Popen(
            manage("serve", "--port", "0"),
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert serving.stdout
            yield serving.stdout.readline().strip(), seeded.stdout.split()[-1]
        finally:
            serving.terminate()
            serving.wait()


def walk(page: Page, password: str) -> Iterator[str]:
    """Go from page to page as the demo's person; each name is that of a picture to take now."""
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    told = page.locator("#conversations a", has_text="Mira’s visit").get_attribute("href") or ""
    home = page.url.partition("/c/")[0].rstrip("/")
    page.locator("#conversations a").first.click()
    page.locator(".exchange").first.wait_for()
    yield "chat"
    page.get_by_role("link", name="What the model saw").last.click()
    page.locator("#inspector .parts").wait_for()
    yield "inspector"
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Memory").click()
    page.locator("#main").get_by_text("Lives in Bergen").first.wait_for()
    yield "memory"
    page.goto(f"{home}/search/?q=what+can+Mira+not+eat")
    page.locator("mark").first.wait_for()
    yield "search"
    page.goto(f"{home}/admin/convo/session/{told.split('/')[2]}/change/")
    yield "admin"


def take(browser: Browser, folder: Path) -> None:
    with demo() as (url, password):
        page = browser.new_context(viewport=SIZE, device_scale_factor=2).new_page()
        page.goto(f"{url}sign-in/")
        for name in walk(page, password):
            page.screenshot(path=folder / f"{name}.png", animations="disabled", caret="hide")
            if name == ALSO_DARK:
                page.emulate_media(color_scheme="dark")
                page.screenshot(path=folder / f"{name}-dark.png", animations="disabled", caret="hide")
                page.emulate_media(color_scheme="light")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs/images")
    target.mkdir(parents=True, exist_ok=True)
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        take(playwright.chromium.launch(executable_path=found, args=["--no-sandbox"]), target)
