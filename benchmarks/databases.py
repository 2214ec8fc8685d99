"""New databases in temporary folders, as durable as in production."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from project import embedded

KINDS = ("sqlite", "postgres")


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The DATABASE_URL of a new database of this kind."""
    # Short, because PostgreSQL's socket lives here and its path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="convo-", dir="/tmp") as name:
        folder = Path(name)
        if kind == "sqlite":
            yield f"sqlite:///{folder}/convo.sqlite3"
        else:
            with embedded.postgres(folder / "postgres") as url:
                yield url
