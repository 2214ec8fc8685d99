"""What the tests run against, settled before Django reads its settings: `--database=sqlite` or `postgres`."""

import os
import signal
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from project import embedded

# So few that a server which holds connections while it waits for a model is found out.
MAX_CONNECTIONS = 60
# A test with one of these fixtures meets a database, or a process that is started for it.
NOT_IN_UNITS = frozenset({"db", "transactional_db", "_upstream", "valkey", "chromium", "node"})
KEPT = ("PATH", "HOME", "USER", "TMPDIR", "LANG", "LC_ALL", "TERM", "CI", "VIRTUAL_ENV", "XDG_RUNTIME_DIR")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=("sqlite", "postgres"),
        default=os.environ.get("CONVO_TEST_DATABASE", "sqlite"),
        help="the database to run on; PostgreSQL is started by the suite itself",
    )
    parser.addoption(
        "--unit",
        action="store_true",
        help="only the tests that need no database and no process of their own, which take a few seconds",
    )
    parser.addoption(
        "--claims",
        type=Path,
        help="a folder through which runs share files: one run of each database has a file, or one of all",
    )
    parser.addoption("--backwards", action="store_true", help="with --claims: begin with the last file")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Give settings an environment of their own, with nothing of the developer's shell or `.env` in it."""
    # Told to end, the run stops what it has started, as it does on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stack = ExitStack()
    early_config.add_cleanup(stack.close)
    # Short, because PostgreSQL's socket lives here and its path may have 107 characters.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="convo-", dir="/tmp")))
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("PY")}
    os.environ.clear()
    os.environ.update(
        kept,
        CONVO_DOTENV="0",
        SECRET_KEY="a fixed key, for tests only, and long enough for every check",
        DEBUG="0",
        HTTPS="0",
        ALLOWED_HOSTS="127.0.0.1,localhost,testserver",
        DATABASE_URL=f"sqlite:///{folder}/convo.sqlite3",
        # What a model is asked, it is asked by the test.
        CONVO_BACKGROUND_MODEL="offline",
        # Nobody here speaks TLS, and each HTTP client would read this machine's certificates for 20 ms.
        SSL_CERT_DIR=str(folder),
    )
    if early_config.known_args_namespace.database == "postgres":
        server = embedded.postgres(folder / "postgres", max_connections=MAX_CONNECTIONS, fsync="off")
        os.environ["DATABASE_URL"] = stack.enter_context(server)


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {config.option.database}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count, what is about the other database; run what needs no particular one at the end."""
    other = "sqlite" if config.option.database == "postgres" else "postgres"
    is_wanted = is_unit if config.option.unit else lambda item: not item.get_closest_marker(other)
    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(item)])
    items[:] = filter(is_wanted, items)
    if config.option.claims:
        # Runs begin at both ends, and meet. What each database needs comes first, because fewer can take it.
        items.sort(key=lambda item: item.path, reverse=config.option.backwards)
        items.sort(key=is_once)


def is_unit(item: pytest.Item) -> bool:
    marked = any(item.get_closest_marker(name) for name in ("slow", "django_db", "postgres"))
    return not marked and NOT_IN_UNITS.isdisjoint(getattr(item, "fixturenames", ()))


def is_once(item: pytest.Item) -> bool:
    """Can either database's runs have it? A test about one database stays with it, whatever its file says."""
    is_about_one = any(item.get_closest_marker(name) for name in ("sqlite", "postgres"))
    return item.get_closest_marker("once") is not None and not is_about_one


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run, as pytest does, those tests that no other run has claimed; all together run all of them."""
    claims: Path | None = session.config.option.claims
    if claims is None or session.config.option.collectonly or session.testsfailed:
        return None
    items = unclaimed(session.items, claims, session.config.option.database)
    item = next(items, None)
    while item is not None:
        # The next test is claimed before this one runs, because pytest wants to know it.
        next_item = next(items, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_item)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = next_item
    return True


def unclaimed(items: Iterable[pytest.Item], claims: Path, database: str) -> Iterator[pytest.Item]:
    """The tests that this run is to run; whichever run comes to a file first has it."""
    is_ours: dict[str, bool] = {}
    for item in items:
        name = item.path.stem if is_once(item) else f"{item.path.stem}.{database}"
        if name not in is_ours:
            try:
                (claims / name).touch(exist_ok=False)
            except FileExistsError:
                is_ours[name] = False
            else:
                is_ours[name] = True
        if is_ours[name]:
            yield item
