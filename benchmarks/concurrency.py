"""Sixteen writers append 400 turns to one session: is all of it there, whole and in order, and how fast?

`python -m benchmarks.concurrency` measures SQLite and PostgreSQL, in temporary folders, each beside a raw
two-row insert by the driver alone. Exit status 1 when a single message is lost, doubled, split or misplaced.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, connections

from benchmarks import writers
from benchmarks.databases import database
from convo.models import ME, Person, Session

WRITERS, PROCESSES = 16, 4

Run = Callable[[str, UUID, int], tuple[list[str], float]]


def threads(way: str, session: UUID, count: int) -> tuple[list[str], float]:
    """All writers in this process; what was acknowledged, and the seconds that it took."""
    return writers.in_threads(writers.WAYS[way](session), first=0, threads=WRITERS, count=count)


def processes(way: str, session: UUID, count: int) -> tuple[list[str], float]:
    """The writers in four processes."""
    each, url = WRITERS // PROCESSES, os.environ["DATABASE_URL"]
    return writers.in_processes(way, session, processes=PROCESSES, threads=each, count=count, url=url)


RUNS: dict[str, Run] = {"16 threads": threads, "4 processes × 4": processes}


def new_session() -> UUID:
    user, _ = get_user_model().objects.get_or_create(username="writer")
    person = Person.objects.get_or_create_by_ref(user, ME)
    return Session.objects.create(owner=user, person=person, agent="assistant").pk


def measure(count: int) -> int:
    """Print a line per run on this process's database; how many faults there were."""
    call_command("migrate", verbosity=0)
    key = "INTEGER PRIMARY KEY" if connection.vendor == "sqlite" else "BIGSERIAL PRIMARY KEY"
    with connection.cursor() as cursor:
        cursor.execute(writers.CREATE_RAW.format(key=key))
    faults = 0
    for name, run in RUNS.items():
        session = new_session()
        connections.close_all()
        acknowledged, seconds = run("convo", session, count)
        verdict = writers.judge(acknowledged, writers.stored(session))
        connections.close_all()
        raw = run("raw", session, count)[1]
        print(line(f"{connection.vendor}, {name}", verdict, len(acknowledged), seconds, raw), flush=True)
        faults += verdict.faults
    return faults


def line(title: str, verdict: writers.Verdict, turns: int, seconds: float, raw: float) -> str:
    return (
        f"{title:28} {verdict.messages} of {2 * turns} messages: {verdict.lost} lost, "
        f"{verdict.duplicated} duplicated, {verdict.split} split, {verdict.out_of_order} out of order; "
        f"{turns / seconds:.0f} turns/s (raw insert {turns / raw:.0f})"
    )


def on_its_own(kind: str, turns: int) -> int:
    """Measure in a process that has a new database of this kind; its exit status."""
    command = [sys.executable, "-m", "benchmarks.concurrency", "--here", "--turns", str(turns)]
    with database(kind) as url:
        return subprocess.run(command, env={**os.environ, "DATABASE_URL": url}, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concurrency", description=__doc__)
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--database", choices=("sqlite", "postgres"), action="append")
    parser.add_argument("--here", action="store_true", help="on the database of DATABASE_URL, which is new")
    given = parser.parse_args()
    if given.here:
        return 1 if measure(given.turns // WRITERS) else 0
    return max(on_its_own(kind, given.turns) for kind in given.database or ("sqlite", "postgres"))


if __name__ == "__main__":
    sys.exit(main())
