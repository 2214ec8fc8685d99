"""The cost of the same requests among more and more messages.

`make bench` measures among ten thousand messages and among thirty times as many. `make bench-growth` does
among 1 and 10 million, loaded by COPY without the search index. Either way every hot statement is explained
while it runs, at each size: its indexes, the rows that it reads and PostgreSQL's buffers depend little on
what else the machine does.
"""

import random
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from inspect import getmembers, isfunction
from statistics import median
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection
from django.test import Client, override_settings

from benchmarks import running, seed, stage
from benchmarks.plans import StatementPlan, explain_statements
from benchmarks.report import Section, Table, format_cell, ratio
from benchmarks.stage import FULL, Sizes
from convo import history, turns
from convo.history import statements
from convo.models import Session, Turn

NAME = "growth"
# All sessions are of this length, so that only their number grows.
LENGTH = 100
# Rows. A table with fewer may be read from beginning to end, which is quick then.
SMALL = 5_000
# A hot statement reads part of a session, and never as many rows as this.
MOST_ROWS = 5 * LENGTH
# Gigabytes, with the write-ahead log, and minutes on a busy machine, for each million messages.
DISK_GB, MINUTES = 1.1, 5
Operation = Callable[[UUID], object]


def context(session: UUID) -> object:
    return turns.preview(Session.objects.get(pk=session), "", max_tokens=1500)


def history_page(session: UUID) -> object:
    return history.page(Session.objects.get(pk=session), newest_first=True, size=20)


def append(session: UUID) -> object:
    return turns.record(Session.objects.get(pk=session), stage.pair(0))


OPERATIONS: dict[str, Operation] = {"context": context, "history page": history_page, "append a turn": append}


def elapsed(operation: Operation, ids: list[UUID], times: int) -> float:
    """Return the median milliseconds in sessions chosen at random."""
    milliseconds = []
    for session in random.Random(7).choices(ids, k=times + 5):
        start = time.perf_counter()
        operation(session)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return median(milliseconds[5:])


def requests(key: str) -> dict[str, Operation]:
    """Return the requests whose statements are explained: those that are timed, over HTTP, and others."""
    client = Client(headers={"authorization": f"Bearer {key}"})

    def send(path: str, body: object = None, **headers: str) -> None:
        post = {"data": body, "content_type": "application/json", "headers": headers}
        response: Any = client.post(path, **post) if body else client.get(path)  # type: ignore[arg-type]
        content = b"".join(response.streaming_content) if response.streaming else response.content
        if response.status_code >= 300:
            raise RuntimeError(f"{path}: {response.status_code} {content!r}")

    def path_of(session: UUID) -> str:
        return f"/api/v1/sessions/{session}/"

    message = {"role": "user", "content": "Which of them is lighter?"}
    reply = {"role": "assistant", "content": "The second one."}
    question = {"message": message["content"]}
    completion = {"model": "assistant", "messages": [message], "store": False}
    return {
        "context": lambda session: send(f"{path_of(session)}context/?max_tokens=1500"),
        "history page": lambda session: send(f"{path_of(session)}history/?order=desc&page_size=20"),
        "append a turn": lambda session: send(f"{path_of(session)}messages/", {"messages": [message, reply]}),
        "append with a key": lambda session: send(
            f"{path_of(session)}messages/", {"messages": [reply]}, idempotency_key=str(uuid4())
        ),
        "question": lambda session: send(f"{path_of(session)}query/", question),
        "reply again": lambda session: send(
            f"{path_of(session)}turns/{Turn.objects.filter(session=session).latest('number').number}/regenerate/",
            {"stream": False},
        ),
        "new question": lambda _: send("/api/v1/query/", question),
        "unstored chat": lambda _: send("/v1/chat/completions", completion),
        "long reply": save_and_renew,
    }


def save_and_renew(session: UUID) -> None:
    """Save a draft and renew the lease, as a server does during a reply that takes seconds."""
    turn = Turn.objects.filter(session=session).latest("number")
    statements.save_drafts([statements.Draft(turn=turn, text="The second one.", chunks=[])])
    statements.renew_leases([turn.pk], 15)


def explain_all(session: UUID) -> list[StatementPlan]:
    """Return all statements of these requests with their plans."""
    plans = []
    # The reply of the offline model comes at once.
    with override_settings(CONVO={**settings.CONVO, "OFFLINE_WORD_SECONDS": 0}):
        for name, operation in requests(stage.issue_key(stage.owner())).items():
            with explain_statements(name) as request_plans:
                operation(session)
            plans += request_plans
    return plans


def big_tables() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples > %s", [SMALL])
        return {name for (name,) in cursor.fetchall()}


def database_gigabytes() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return float(cursor.fetchone()[0]) / 1e9


def drop_indexes(names: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute("SELECT CAST(conrelid AS regclass) FROM pg_constraint WHERE conname = %s", [name])
            if row := cursor.fetchone():
                cursor.execute(f'ALTER TABLE {row[0]} DROP CONSTRAINT "{name}"')
            else:
                cursor.execute(f'DROP INDEX "{name}"')


def measure(sizes: Sizes, without_indexes: Sequence[str] = ()) -> Section:
    section, ids = Section(NAME), list[UUID]()
    times: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    plans: list[list[StatementPlan]] = []
    seed.add_others(min(2 * SMALL, sizes.message_counts[-1]))
    for count in sizes.message_counts:
        start = time.perf_counter()
        sessions = max(count // LENGTH - len(ids), 1)
        ids += seed.seed(stage.owner(), sessions=sessions, messages=min(LENGTH, count))
        seed.analyze()
        seconds, size = time.perf_counter() - start, database_gigabytes()
        section.notes.append(f"{count:,} messages: loaded in {seconds:,.0f} s, {size:.2f} GB.")
        stage.progress(section.notes[-1])
        for name, operation in OPERATIONS.items():
            times[name].append(elapsed(operation, ids, sizes.times))
        if count == sizes.message_counts[-1]:
            drop_indexes(without_indexes)
        plans.append(explain_all(ids[0]))
    add_times(section, sizes, times)
    add_statements(section, sizes, plans)
    section.texts["plans"] = "\n".join(
        executions[0].text for executions in executions_by_statement(plans[-1])
    )
    return section


def add_times(section: Section, sizes: Sizes, times: dict[str, list[float]]) -> None:
    columns = ["operation", *(f"{count:,} messages, p50 ms" for count in sizes.message_counts), "growth, ×"]
    table = Table("The same request among more messages, in process", columns, bars=["growth, ×"])
    for name, values in times.items():
        growth = ratio(values[-1], values[0])
        table.add(name, *values, growth)
        section.at_most(f"{name}, growth to {sizes.message_counts[-1]:,} messages", growth, 1.15)
    section.tables.append(table)
    maximum = max(ratio(values[-1], values[0]) for values in times.values())
    first, *_, last = sizes.message_counts
    title = f"context, history and append among {last:,} messages instead of {first:,}"
    section.headlines.append([title, f"at most × {format_cell(maximum)}", ""])


def add_statements(section: Section, sizes: Sizes, plans: list[list[StatementPlan]]) -> None:
    """Add what each statement reads, and the targets that no noise disturbs."""
    columns = ["request", *(f"{count:,} messages, buffers" for count in sizes.message_counts), "statements"]
    table = Table("Pages of 8 kB that all statements of a request read", columns)
    for name in dict.fromkeys(each.operation for each in plans[-1]):
        counts = [
            sum(each.buffers for each in at_one_size if each.operation == name) for at_one_size in plans
        ]
        table.add(name, *counts, sum(each.operation == name for each in plans[-1]))
    section.tables.append(table)
    columns = ["request: statement", "times", "rows read", "buffers", "indexes"]
    table = Table(f"Each statement among {sizes.message_counts[-1]:,} messages", columns)
    for executions in executions_by_statement(plans[-1]):
        maximum, name = (
            max(executions, key=lambda each: each.buffers),
            f"{executions[0].operation}: {executions[0].caller}",
        )
        table.add(name, len(executions), maximum.rows, maximum.buffers, ", ".join(maximum.indexes) or "–")
    section.tables.append(table)
    big = big_tables()
    scans = [f"{each.operation}: {each.caller}: {name}" for each in plans[-1] for name in each.scans & big]
    section.at_most("hot statements that read a big table as a whole", len(scans), 0, "")
    section.notes += [f"Read as a whole: {scan}." for scan in scans]
    rows = max(each.rows for each in plans[-1])
    section.at_most("rows that a hot statement reads, at most", rows, MOST_ROWS, "")
    callers = {each.caller.rpartition(".")[2] for each in plans[-1]}
    functions = {name for name, _ in getmembers(statements, isfunction)}
    missing = sorted(functions - callers)
    section.at_most("functions of convo.history.statements without a plan", len(missing), 0, "")
    section.notes += [f"Without a plan: {name}." for name in missing]


def executions_by_statement(plans: list[StatementPlan]) -> Iterable[list[StatementPlan]]:
    """Group the executions of one statement in one request."""
    groups: dict[tuple[str, str], list[StatementPlan]] = {}
    for each in plans:
        groups.setdefault((each.operation, each.sql), []).append(each)
    return groups.values()


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--most", type=int, default=10_000_000, help="measure at a tenth of it, then at it")
    parser.add_argument("--yes", action="store_true", help="don't ask first")
    parser.add_argument(
        "--without-index",
        action="append",
        default=[],
        metavar="NAME",
        help="drop this index before statements are explained, to see that the checks notice",
    )


def run(options: Namespace) -> int:
    if not (options.here or options.yes or agrees(options.most)):
        return 1
    return running.section_command(measure_millions)(options)


def measure_millions(options: Namespace) -> Section:
    sizes = replace(FULL, message_counts=(10_000, options.most // 10, options.most))
    return replace(measure(sizes, options.without_index), name=f"{NAME}-millions")


def agrees(messages: int) -> bool:
    millions = messages / 1e6
    minutes, disk = MINUTES * millions, DISK_GB * millions
    question = f"This takes about {minutes:.0f} minutes, both cores and {disk:.0f} GB in /tmp. Go on? [y/N] "
    print(question, end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
