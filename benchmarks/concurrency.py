"""Sixteen writers that append 400 turns to one session: their speed, and whether all is whole and in order.

Beside them stands a raw two-row insert by the driver alone.
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import connection, connections

from benchmarks import writers
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


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=400)


def measure(options: Namespace) -> int:
    """Print a line per run; return 1 if a single message is lost, doubled, split or misplaced."""
    count = options.turns // WRITERS
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
    return 1 if faults else 0


def line(title: str, verdict: writers.Verdict, turns: int, seconds: float, raw: float) -> str:
    return (
        f"{title:28} {verdict.messages} of {2 * turns} messages: {verdict.lost} lost, "
        f"{verdict.duplicated} duplicated, {verdict.split} split, {verdict.out_of_order} out of order; "
        f"{turns / seconds:.0f} turns/s (raw insert {turns / raw:.0f})"
    )
