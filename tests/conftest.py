"""Who and what the tests meet: two people with keys, a model server, real servers, a browser."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser

from convo.management import embedded
from convo.models import ApiKey
from tests.servers import Server, client_of
from tests.upstream import Upstream

Serve = Callable[..., Server]


@pytest.fixture
def alice(db: None) -> AbstractBaseUser:
    """She owns what the test is about."""
    return get_user_model().objects.create_user("alice")


@pytest.fixture
def bob(db: None) -> AbstractBaseUser:
    """He may not see it."""
    return get_user_model().objects.create_user("bob")


@pytest.fixture
def alice_key(alice: AbstractBaseUser) -> str:
    return ApiKey.objects.issue(alice)[1]


@pytest.fixture
def bob_key(bob: AbstractBaseUser) -> str:
    return ApiKey.objects.issue(bob)[1]


@pytest.fixture(scope="session")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    """The model server, which has heard nothing yet."""
    _upstream.forget()
    return _upstream


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Valkey server that lives as long as the run."""
    with embedded.valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def serve(transactional_db: None, tmp_path: Path) -> Iterator[Serve]:
    """Starts real servers, `serve(OPENAI_BASE_URL=upstream.url)` for one; they end with the test."""
    servers: list[Server] = []

    def start(*, port: int = 0, **env: str) -> Server:
        servers.append(Server(tmp_path / f"server-{len(servers)}.log", port=port, **env))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
        # pytest shows this under a test that failed.
        print(f"--- {server.url} wrote:\n{server.log()}")


@pytest.fixture
def api(serve: Serve, alice_key: str) -> Iterator[httpx2.Client]:
    """Alice's client of a server that answers offline."""
    with client_of(serve(CONVO_OFFLINE_WORD_SECONDS="0"), alice_key) as client:
        yield client


def component(title: str, *names: str, get: str) -> str:
    """The path of a program that the tests need; without it a test is left out, and in CI it fails."""
    for name in names:
        if path := shutil.which(name):
            return path
    sentence = f"{title} is not installed. Get it: {get}"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium for the browser tests."""
    return component(
        "Chromium", "chromium", "chromium-browser", "google-chrome", get="apt-get install chromium"
    )


@pytest.fixture(scope="session")
def node() -> str:
    """The path of Node for the tests of the page's JavaScript."""
    return component("Node", "node", "nodejs", get="apt-get install nodejs")
