"""A long soak run, `make soak SECONDS=60 SEED=7`: see tests/soak.py. Exit status 1 for a broken promise."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.management import call_command

from benchmarks.databases import database
from convo.models import ApiKey
from tests.soak import run
from tests.upstream import Upstream


def soak(seed: int, seconds: float) -> int:
    """Run on this process's database, print what was seen, and say how many promises were broken."""
    call_command("migrate", verbosity=0)
    key = ApiKey.objects.issue(get_user_model().objects.create_user("soak"))[1]
    folder = Path(tempfile.mkdtemp(prefix="convo-soak-"))
    with Upstream() as upstream:
        outcome = run(seed=seed, seconds=seconds, folder=folder, key=key, upstream=upstream.url)
    for title in ("done", "told", "destroyed"):
        counted = getattr(outcome, title).most_common()
        print(f"{title:10}", ", ".join(f"{count} × {name}" for name, count in counted))
    print(*outcome.problems, sep="\n")
    print(f"seed {seed}: {len(outcome.problems)} broken promises; the history is {folder}/history.jsonl")
    return len(outcome.problems)


def on_its_own(kind: str, *options: str, env: Mapping[str, str]) -> int:
    """Run in a process that has a new database of this kind, and this environment; its exit status."""
    command = [sys.executable, "-m", "benchmarks.soak", "--here", *options]
    with database(kind) as url:
        whole_env = {**os.environ, **env, "DATABASE_URL": url}
        return subprocess.run(command, env=whole_env, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--database", choices=("sqlite", "postgres"), action="append")
    parser.add_argument(
        "--stock-handler", action="store_true", help="with servers that use Django's own ASGI handler"
    )
    parser.add_argument("--here", action="store_true", help="on the database of DATABASE_URL, which is new")
    given = parser.parse_args()
    if given.here:
        return 1 if soak(given.seed, given.seconds) else 0
    options = ["--seed", str(given.seed), "--seconds", str(given.seconds)]
    env = {"CONVO_REQUEST_THREADS": "0"} if given.stock_handler else {}
    return max(on_its_own(kind, *options, env=env) for kind in given.database or ("sqlite", "postgres"))


if __name__ == "__main__":
    sys.exit(main())
