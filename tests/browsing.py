"""A real browser for the tests, and what a person does with it."""

import asyncio
from asyncio import _set_running_loop
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.faults import wait_until
from tests.servers import ROOT, Server

Serve = Callable[..., Server]

# What is waited for comes in a tenth of a second; on a machine that is busy, it comes all the same.
expect.set_options(timeout=20_000)

ARTIFACTS = ROOT / "test-artifacts"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# A name for this machine that browsers do not trust as they trust 127.0.0.1: over it nothing is secure.
FLAGS += ["--host-resolver-rules=MAP plain.test 127.0.0.1"]
# Each new window prepares menus that nobody opens here, in a process of their own: half of what a page costs.
# Chromium reads the last such list only, so this one repeats what Playwright's own turns off.
OFF = ["PreloadTopChromeWebUI", "WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup"]
OFF += ["AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades"]
OFF += ["HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding"]
OFF += ["ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect", "TcpPortRandomizationWin"]
OFF += ["OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch"]
FLAGS += [f"--disable-features={','.join(OFF)}", "--in-process-gpu"]
# Anybody is a guest.
GUESTS = {"DEBUG": "1", "CONVO_OFFLINE_WORD_SECONDS": "0.005"}


@pytest.fixture(scope="session")
def _browser(chromium: str) -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    """Chromium, started once, and the event loop with which Playwright talks to it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        loop = asyncio.get_running_loop()
        _set_running_loop(None)
        yield browser, loop
        _set_running_loop(loop)
        browser.close()


@pytest.fixture
def browser(
    serve: Serve, share: Serve, _browser: tuple[Browser, asyncio.AbstractEventLoop]
) -> Iterator[Browser]:
    """Chromium, with nothing of an earlier test in it.

    Django refuses to touch the database in a thread whose event loop runs, and Playwright's runs from its
    start to its end. So this thread has it during the tests of the browser only, which leave the database to
    their servers and to fixtures that are made before.
    """
    browser, loop = _browser
    _set_running_loop(loop)
    yield browser
    for context in browser.contexts:
        context.close()
    _set_running_loop(None)


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.new_context(viewport={"width": 1280, "height": 860}).new_page()


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


@pytest.fixture
def shared(valkey: str) -> dict[str, str]:
    """What a server is given that keeps its hot windows and its live events in Valkey, and has no Celery."""
    return {"REDIS_URL": valkey, "CELERY_BROKER_URL": ""}


def ask(page: Page, text: str) -> None:
    """Type it and send it with the keyboard alone."""
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(text)
    box.press("Enter")


def replied(page: Page, turn: int) -> None:
    """Wait until this turn's reply is there, whole."""
    expect(page.locator(f"#turn-{turn} .reply .text")).not_to_be_empty()
    expect(page.locator(f"#turn-{turn}[data-live]")).to_have_count(0)


def picture(page: Page, name: str) -> None:
    """A screenshot for those who look at what CI saw."""
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


def port_of(server: Server) -> int:
    return urlsplit(server.url).port or 0


def is_wider_than_the_screen(page: Page) -> bool:
    # Without its style sheets, it may be.
    page.wait_for_load_state()
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def until(page: Page, condition: str) -> None:
    """Wait until this holds on the page, whose content policy forbids the browser's own way of waiting."""
    wait_until(lambda: bool(page.evaluate(condition)))
