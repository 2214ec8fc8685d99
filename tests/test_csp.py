"""What every answer tells the browser: what may run, what may be loaded, and that nothing is kept."""

import re
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from convo.http import csp
from tests.support.pages import conversation, told
from tests.support.routes import OBJECTS, address, call

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

PAGES = ["/", "/sign-in/", "/sign-up/", "/c/nothing/"]
OTHERS = ["/admin/", "/admin/convo/session/", "/api/docs/", "/api/v1/sessions/?format=api"]
HTML = {"Accept": "text/html"}


@pytest.fixture(autouse=True)
def _open(settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "GUESTS": True, "SIGN_UP": True, "OFFLINE_WORD_SECONDS": 0}


@pytest.fixture
def root(client: Client) -> Client:
    """A browser that may see everything."""
    client.force_login(get_user_model().objects.create_superuser("root"))
    return client


def policy(response: Any) -> dict[str, list[str]]:
    directives = response["Content-Security-Policy"].split("; ")
    return {name: sources for name, *sources in (directive.split() for directive in directives)}


@pytest.mark.parametrize("at", [*PAGES, *OTHERS])
def test_every_page_is_held_to_the_policy(root: Client, at: str) -> None:
    answer = root.get(at, headers=HTML)
    assert answer["Content-Type"].startswith("text/html")
    held = policy(answer)
    assert held["default-src"] == held["object-src"] == held["base-uri"] == ["'none'"]
    assert held["frame-ancestors"] == ["'none'"]
    for name in ("style-src", "connect-src", "font-src", "form-action"):
        assert held[name] == ["'self'"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert "http" not in answer["Content-Security-Policy"]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"
    assert "camera=()" in answer["Permissions-Policy"]


def test_a_page_of_ours_runs_the_scripts_that_it_names_and_no_other_file(client: Client, alice: User) -> None:
    session = conversation(alice)
    told(session, 2)
    client.force_login(alice)
    nonces = set()
    for at in ["/", f"/c/{session.pk}/", f"/c/{session.pk}/"]:
        answer = client.get(at)
        (source,) = policy(answer)["script-src"]
        found = re.fullmatch(r"'nonce-([\w-]{22})'", source)
        assert found
        scripts = re.findall(r"<script\b[^>]*>", answer.content.decode())
        assert scripts
        for script in scripts:
            assert f'nonce="{found[1]}"' in script or 'type="application/json"' in script
        nonces.add(found[1])
    assert len(nonces) == 3


@pytest.mark.parametrize("at", OTHERS)
def test_the_pages_of_others_run_files_of_this_server_and_nothing_inline(root: Client, at: str) -> None:
    answer = root.get(at, headers=HTML)
    (source,) = policy(answer)["script-src"]
    html = answer.content.decode()
    for tag in re.findall(r"<script\b[^>]*>", html):
        assert "src=" in tag or 'type="application/json"' in tag or source.strip("'")[6:] in tag
    assert source == "'self'" or "nonce=" in html
    assert "<style" not in html


def test_a_project_may_have_a_policy_of_its_own(client: Client, settings: Settings) -> None:
    settings.SECURE_CSP = {
        "default-src": ["'self'"],
        "script-src": ["'self'", csp.NONCE, "https://cdn.example"],
    }
    held = policy(client.get("/"))
    assert held["default-src"] == ["'self'"]
    assert held["script-src"][0] == "'self'"
    assert held["script-src"][1].startswith("'nonce-")
    assert held["script-src"][2] == "https://cdn.example"
    assert len(held) == 2
    assert policy(client.get("/api/v1/nothing/"))["default-src"] == ["'self'"]


@pytest.mark.parametrize("name", OBJECTS)
def test_no_answer_is_kept_by_a_browser_or_a_cache(name: str, alice: User, hers: str) -> None:
    client = Client()
    client.force_login(alice)
    for method in OBJECTS[name]:
        answer = call(client, name, method, hers)
        assert "no-store" in answer["Cache-Control"], (method, answer.status_code)
    assert "no-store" in Client().get(address(name, hers))["Cache-Control"]


@pytest.mark.parametrize("at", [*PAGES, *OTHERS, "/api/v1/nothing/", "/v1/models"])
def test_no_page_is_kept_either(root: Client, at: str) -> None:
    assert "no-store" in root.get(at)["Cache-Control"]
    assert "no-store" in Client().get(at)["Cache-Control"]


def test_files_of_the_pages_may_be_kept(client: Client) -> None:
    answer = client.get("/static/convo/convo.css")
    assert b"".join(answer).startswith(b"/* Convo")
    answer.close()
    assert "no-store" not in answer.headers.get("Cache-Control", "")
