"""New databases in temporary folders, as durable as in production."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
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


def on_each(kinds: Sequence[str] | None, module: str, options: Sequence[str]) -> int:
    """Run `python -m module --here` on a new database of each kind; the worst exit status."""
    statuses = []
    for kind in kinds or KINDS:
        with database(kind) as url:
            command = [sys.executable, "-m", module, "--here", *options]
            run = subprocess.run(command, env={**os.environ, "DATABASE_URL": url}, check=False)
            statuses.append(run.returncode)
    return max(statuses)
