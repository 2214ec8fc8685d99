"""What the tests run against, settled before Django reads its settings: `--database=sqlite` or `postgres`."""

import os
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from convo.management import embedded

# So few that a server which holds connections while it waits for a model is found out.
MAX_CONNECTIONS = 60
KEPT = ("PATH", "HOME", "USER", "TMPDIR", "LANG", "LC_ALL", "TERM", "CI", "VIRTUAL_ENV", "XDG_RUNTIME_DIR")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=("sqlite", "postgres"),
        default=os.environ.get("CONVO_TEST_DATABASE", "sqlite"),
        help="the database to run on; PostgreSQL is started by the suite itself",
    )


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
    )
    if early_config.known_args_namespace.database == "postgres":
        server = embedded.postgres(folder / "postgres", max_connections=MAX_CONNECTIONS, fsync="off")
        os.environ["DATABASE_URL"] = stack.enter_context(server)


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {config.option.database}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count, what is about the other database or was already run with the first one."""
    unwanted = "once" if config.option.database == "postgres" else "postgres"
    left_out = [item for item in items if item.get_closest_marker(unwanted)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
