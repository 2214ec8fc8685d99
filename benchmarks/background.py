"""The turns that one worker takes in: learned from by the offline rules, and indexed with their vectors.

`measure` is the worker alone. `measure_beside` is a Celery worker beside a web server that takes in turns at
a constant rate, and the turns that wait meanwhile.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from math import ceil
from statistics import median
from typing import Any

from benchmarks import stage
from benchmarks.load import SESSION
from benchmarks.processes import Load, Result, Tree, fire, postgres_tree, request
from benchmarks.report import Chart, Section, Table
from benchmarks.resources import worker
from benchmarks.stage import Sizes
from convo import jobs, turns
from convo.history import NewMessage
from convo.models import IndexedMessage, Person, Session, Turn

NAME = "background"
# Turns of one session, as people talk: a session has some, not all.
TURNS = 10
PERSON = "person-"
FACTS = ["My name is Ada.", "I live in Oslo.", "I prefer tea to coffee.", "Which charger fits?", "Thanks!"]
CLIENTS = 8
SAMPLE_SECONDS, PRINT_SECONDS = 5, 30
# The backlog has grown if more than this share of all turns has come to it.
TOLERANCE = 0.01


def messages_of(number: int) -> list[NewMessage]:
    _, reply = stage.pair(number)
    question = f"{FACTS[number % len(FACTS)]} {stage.WORDS}"
    return [NewMessage(role="user", content=question), reply]


def sessions_of_people(owner: Any, count: int) -> list[Session]:
    """Create a session for each of so many people."""
    first = Person.objects.filter(owner=owner).count()
    people = [Person(owner=owner, ref=f"{PERSON}{number}") for number in range(first, first + count)]
    Person.objects.bulk_create(people)
    return Session.objects.bulk_create(
        Session(owner=owner, person=person, agent="assistant") for person in people
    )


def record(count: int) -> None:
    for session in sessions_of_people(stage.owner(), ceil(count / TURNS)):
        for number in range(min(TURNS, count)):
            turns.record(session, messages_of(number))


def backlog() -> dict[str, int]:
    """Return how many turns wait for each kind of work."""
    recorded_turns = Turn.objects.filter(session__person__ref__startswith=PERSON)
    without_vector = IndexedMessage.objects.filter(person__ref__startswith=PERSON, vector=None)
    return {
        "to be learned from": recorded_turns.filter(learned_at=None).count(),
        "for the index of words": recorded_turns.filter(indexed_at=None).count(),
        "for their vectors": without_vector.values("message__turn").distinct().count(),
    }


def measure(sizes: Sizes) -> Section:
    """Sweep in this process until nothing is left, as a Celery worker's task for the sweep does."""
    section, count = Section(NAME), sizes.background_turns
    # The first sweep loads the models and the rules.
    record(1)
    jobs.sweep()
    stage.progress(f"recording {count:,} turns")
    record(count)
    stage.progress("one worker at work")
    postgres = postgres_tree()
    start, cpu_before, postgres_before = time.perf_counter(), time.process_time(), postgres.cpu_seconds()
    while any(backlog().values()):
        jobs.sweep()
    seconds = time.perf_counter() - start
    cpu, postgres_cpu = time.process_time() - cpu_before, postgres.cpu_seconds() - postgres_before
    columns = ["worker", "turns per second", "its CPU ms a turn", "PostgreSQL CPU ms a turn"]
    table = Table("One worker, offline rules", columns)
    table.add("learned and indexed", count / seconds, 1000 * cpu / count, 1000 * postgres_cpu / count)
    section.tables.append(table)
    section.at_least("one worker, learned and indexed", count / seconds, 100, "turns/s")
    return section


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=30, help="turns per second that the server takes in")


def intake(rate: float, seconds: float) -> Load:
    """Return so many appended turns a second, by people who each talk in a session of their own."""
    user, path = stage.owner(), f"/api/v1/sessions/{SESSION}/messages/"
    key, sessions = stage.issue_key(user), sessions_of_people(user, ceil(rate * seconds / TURNS) + CLIENTS)
    bodies = [
        {"messages": [{"role": message.role, "content": message.content} for message in messages_of(number)]}
        for number in range(TURNS)
    ]
    return Load(
        [request("POST", path, key=key, body=body) for body in bodies],
        CLIENTS,
        seconds=seconds,
        sessions=[str(session.pk) for session in sessions],
        rate=rate,
        patience=seconds + 60,
    )


def measure_beside(options: Namespace) -> Section:
    """Append turns over HTTP at a constant rate, and watch what waits for the worker."""
    section, seconds = Section(f"{NAME}-beside"), 60 * options.minutes
    load = intake(options.rate, seconds)
    with ExitStack() as stack:
        redis, model = stack.enter_context(stage.valkey()), stack.enter_context(stage.upstream())
        server = stack.enter_context(stage.convo(model.url, redis))
        tree, _ = stack.enter_context(worker(redis))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        cpu_before = tree.cpu_seconds()
        future = pool.submit(fire, server.port, server.tree, load)
        moments, backlogs = watch(future, tree, seconds)
        result = future.result()
        for name, counts in backlogs.items():
            add_beside(section, result, name, counts)
        worker_ms = 1000 * (tree.cpu_seconds() - cpu_before) / max(result.responses, 1)
    add_intake(section, options.rate, result)
    minutes = [moment / 60 for moment in moments]
    title = f"Turns that wait while {options.rate:g} a second come in"
    section.charts.append(Chart(title, "minutes", minutes, backlogs))
    section.notes.append(
        f"CPU for each turn: web server {result.server_ms:.2f} ms, worker {worker_ms:.2f} ms, PostgreSQL for "
        f"both {result.postgres_ms:.2f} ms."
    )
    return section


def watch(
    future: Future[Result], worker_tree: Tree, seconds: float
) -> tuple[list[float], dict[str, list[float]]]:
    """Sample the backlog while the load runs, and print it now and then."""
    moments, backlogs = list[float](), dict[str, list[float]]()
    start, next_print = time.monotonic(), float(PRINT_SECONDS)
    while not future.done() and (now := time.monotonic() - start) < seconds:
        moments.append(now)
        counts = backlog()
        for name, count in counts.items():
            backlogs.setdefault(name, []).append(float(count))
        if now >= next_print:
            next_print += PRINT_SECONDS
            text = ", ".join(f"{count:,} {name}" for name, count in counts.items())
            print(f"{now:6.0f} s: {text}; worker {worker_tree.memory() / 1e6:.0f} MB", flush=True)
        time.sleep(min(SAMPLE_SECONDS, max(seconds / 20, 0.1)))
    return moments, backlogs


def add_beside(section: Section, result: Result, name: str, counts: Sequence[float]) -> None:
    """Add how many turns waited for one kind of work, and whether more and more did."""
    if not section.tables:
        columns = ["turns that wait", "first half, p50", "second half, p50", "at most"]
        section.tables.append(Table("One worker beside a busy web server", columns))
    half = len(counts) // 2
    first, last = median(counts[:half]), median(counts[half:])
    section.tables[0].add(name, first, last, max(counts))
    growth = max(last - first, 0) / max(result.responses, 1)
    section.at_most(f"turns that wait {name}, growth as a share of all", growth, TOLERANCE, "")


def add_intake(section: Section, rate: float, result: Result) -> None:
    table = Table("Appends over HTTP", ["turns", "per second", "p50 ms", "failed"])
    failed = sum(result.failures.values())
    table.add(result.responses, result.rate, result.p50, failed)
    section.tables.append(table)
    section.at_least("turns that were taken in", result.rate, 0.95 * rate, "a second")
    section.at_most("appends that failed", failed, 0, "")
