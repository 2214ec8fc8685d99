"""The dashboard in a real browser: light and dark, on a desk and in a hand, and each mark leads somewhere."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect

from convo.models import Work
from tests.axe import violations
from tests.browsing import Serve, is_wider_than_the_screen, picture
from tests.staff import staff
from tests.support.dashboard import PAGE
from tests.support.usage import many, noon, session_of, turn

pytestmark = pytest.mark.once

SIZES = {"desk": {"width": 1280, "height": 900}, "hand": {"width": 390, "height": 800}}


@pytest.fixture
def signed_in(transactional_db: None, alice: User) -> str:
    """The session of somebody of the staff, who finds four days of turns, and work that was given up.

    Before the browser: beside its event loop nothing is written.
    """
    session = session_of(alice)
    many(session, 4)
    for agent in ("support", "translator", "coder"):
        turn(session, noon(1), agent=agent)
    Work.objects.create(kind="learn", target="1", state=Work.State.DEAD)
    return str(staff().cookies["sessionid"].value)


def dashboard(browser: Browser, url: str, session: str, *, scheme: str = "light", size: str = "desk") -> Page:
    context = browser.new_context(color_scheme=scheme, viewport=SIZES[size])  # type: ignore[arg-type]
    context.add_cookies([{"name": "sessionid", "value": session, "url": url}])
    page = context.new_page()
    page.goto(f"{url}{PAGE}?days=7")
    return page


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_seen_whole_and_by_everybody(
    signed_in: str, house: Serve, browser: Browser, node_clients: Path, scheme: str, size: str
) -> None:
    page = dashboard(browser, house().url, signed_in, scheme=scheme, size=size)
    expect(page.locator(".chart svg.plot")).to_have_count(6)
    assert not is_wider_than_the_screen(page)
    assert violations(page, node_clients) == []
    picture(page, f"dashboard-{scheme}-{size}")


def test_nothing_of_it_comes_from_elsewhere(signed_in: str, house: Serve, browser: Browser) -> None:
    url = house().url
    page = dashboard(browser, url, signed_in)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    assert any("dashboard.css" in address for address in asked)
    assert [address for address in asked if not address.startswith(url)] == []


def test_a_bar_leads_to_its_turns_and_the_table_tells_the_same(
    signed_in: str, house: Serve, browser: Browser
) -> None:
    page = dashboard(browser, house().url, signed_in)
    chart = page.locator(".chart").first
    chart.get_by_text("As a table").click()
    expect(chart.locator("tbody tr")).to_have_count(7)
    told = chart.locator("tbody tr:has(a) a").first.inner_text()
    # The newest day's lowest bar is what the newest row's first number counts.
    newest = chart.locator("rect.bar.c1").last
    assert (newest.locator("title").text_content() or "").endswith(f" {told}")
    newest.click()
    expect(page).to_have_url(re.compile(r"/admin/convo/turn/\?.*agent="))
    expect(page.locator("#result_list tbody tr").first).to_be_visible()
