"""Who and what the tests meet: two people with keys, a model server, real servers, a browser."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.contenttypes.management import create_contenttypes
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models.signals import post_migrate
from django.test import TransactionTestCase
from openai import OpenAI
from whitenoise.middleware import WhiteNoiseMiddleware

from convo.models import ApiKey, Session, Turn
from project import embedded
from tests.browsing import _browser, browser, house, page, shared, welcoming  # noqa: F401  fixtures
from tests.emptying import emptying
from tests.faults import wait_until
from tests.responses import client, env_of
from tests.servers import ROOT, Server, Standing, client_of
from tests.static_files import listed_once
from tests.support.rest import SESSIONS, Caller, ok
from tests.support.routes import APPEND, ASK, remember
from tests.support.rows import session  # noqa: F401  a fixture
from tests.upstream import Upstream

Serve = Callable[..., Server]
KEY_SCOPES = ["read", "write", "memory:erase"]
STOCK = "stock-handler"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that is marked `both_handlers` with servers of each handler."""
    if metafunc.definition.get_closest_marker("both_handlers"):
        metafunc.parametrize("handler_env", ["", STOCK], ids=["one-thread", STOCK], indirect=True)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """The test database, as pytest-django makes it.

    Emptied after a test, its tables get no new content types and permissions, which take longer than most
    tests: no rule of ours asks for a permission, and Django makes a content type when it needs one.
    """
    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
    post_migrate.disconnect(create_contenttypes)
    TransactionTestCase._fixture_teardown = emptying(TransactionTestCase._fixture_teardown)  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def list_static_files_once() -> None:
    WhiteNoiseMiddleware.add_files_from_finders = listed_once(WhiteNoiseMiddleware.add_files_from_finders)


@pytest.fixture(autouse=True)
def forget_contenttypes() -> Iterator[None]:
    """Forget the cached content types: their rows are emptied or rolled back after each test."""
    yield
    ContentType.objects.clear_cache()


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
    return ApiKey.objects.issue(alice, scopes=KEY_SCOPES)[1]


@pytest.fixture
def bob_key(bob: AbstractBaseUser) -> str:
    return ApiKey.objects.issue(bob, scopes=KEY_SCOPES)[1]


@pytest.fixture
def hers(alice: AbstractBaseUser, alice_key: str) -> str:
    """The id of a session of Alice's (a message, then a question whose answer broke off) and of a memory."""
    caller = Caller(alice_key)
    session_id = str(ok(caller.send(SESSIONS), 201)["id"])
    ok(caller.send(f"{SESSIONS}{session_id}/messages/", APPEND), 201)
    ok(caller.send(f"{SESSIONS}{session_id}/query/", ASK))
    Turn.objects.filter(number=2).update(status=Turn.Status.PARTIAL)
    remember(alice, session_id)
    return session_id


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
def handler_env(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of servers under the handler of this test: Django's own, or the one that is usual."""
    return {"CONVO_REQUEST_THREADS": "0"} if getattr(request, "param", "") == STOCK else {}


@pytest.fixture
def serve(transactional_db: None, tmp_path: Path, handler_env: dict[str, str]) -> Iterator[Serve]:
    """Starts real servers, `serve(OPENAI_BASE_URL=upstream.url)` for one; they end with the test."""
    servers: list[Server] = []

    def start(*, port: int = 0, **env: str) -> Server:
        log = tmp_path / f"server-{len(servers)}.log"
        servers.append(Server(log, port=port, **{**handler_env, **env}))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
        # pytest shows this under a test that failed.
        print(f"--- {server.url} wrote:\n{server.log()}")


@pytest.fixture(scope="session")
def standing(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """The servers that `share` finds again; `standing.end()` in a test that needs their connections."""
    servers = Standing(tmp_path_factory.mktemp("standing"))
    yield servers
    servers.end()


@pytest.fixture
def share(
    transactional_db: None, standing: Standing, upstream: Upstream, handler_env: dict[str, str]
) -> Iterator[Serve]:
    """Like `serve`, for tests that neither stop nor starve a server: it stays for those that come later.

    `share(**env)` and `share(number=1, **env)` are two servers. They do no background work; one that is
    given CONVO_SWEEP_SECONDS does, and ends with the test.
    """
    asked: dict[Server, int] = {}

    def find(*, number: int = 0, **env: str) -> Server:
        server = standing.get(number, {**handler_env, **env})
        asked.setdefault(server, len(server.log()))
        return server

    yield find
    upstream.release()
    standing.end_working()
    forget_sessions()
    wait_until(lambda: not upstream.active)
    for server, before in asked.items():
        print(f"--- {server.url} wrote:\n{server.log()[before:]}")


@pytest.fixture
def server(share: Serve, upstream: Upstream) -> Server:
    """A server that asks the model server of the tests; some files have another one of this name."""
    return share(**env_of(upstream))


@pytest.fixture
def alices(server: Server, alice_key: str) -> Iterator[OpenAI]:
    """Alice's `openai` client."""
    with client(server, alice_key) as made:
        yield made


@pytest.fixture
def raw(server: Server, alice_key: str) -> Iterator[httpx2.Client]:
    """The OpenAI-compatible API as bytes."""
    with client_of(server, alice_key) as made:
        yield made


def forget_sessions() -> None:
    """Take all sessions from under the servers that go on, in the order in which they lock rows themselves.

    Whatever a server still does then finds nothing to do, and can't meet the emptying of all tables halfway.
    """
    with transaction.atomic():
        list(Session.objects.select_for_update().order_by("pk").values_list("pk"))
        Session.objects.all().delete()


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
        "Chromium",
        "chromium-headless-shell",
        "chromium",
        "chromium-browser",
        "google-chrome",
        get="apt-get install chromium",
    )


@pytest.fixture(scope="session")
def node() -> str:
    """The path of Node for the tests of the page's JavaScript."""
    return component("Node", "node", "nodejs", get="apt-get install nodejs")


@pytest.fixture(scope="session")
def node_clients(node: str) -> Path:
    """The folder in which Node finds the clients of tests/node/package.json, installed once."""
    wanted, folder = ROOT / "tests/node", Path(sys.prefix) / "node"
    folder.mkdir(exist_ok=True)
    # Several runs go side by side.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told, stamp = (wanted / "package-lock.json").read_bytes(), folder / "installed.json"
        if not stamp.exists() or stamp.read_bytes() != told:
            npm = component("npm", "npm", get="apt-get install npm")
            for name in ("package.json", "package-lock.json"):
                shutil.copy(wanted / name, folder)
            subprocess.run([npm, "ci", "--silent", "--ignore-scripts"], cwd=folder, check=True)
            stamp.write_bytes(told)
    return folder
