"""Does a request cost more when there are more messages? Ten thousand of them, then thirty times as many.

`python -m benchmarks.growth --most 10000000` is `make bench-growth`: 1 and 10 million, loaded by COPY without
the search index, which takes an hour and 20 GB. Either way the plan of every hot statement is kept.
"""

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from django.db import connection

from benchmarks import report, running, seed, stage
from benchmarks.report import Section, Table, ratio, shown
from benchmarks.stage import FULL, TINY, Sizes
from convo import history, turns
from convo.models import Session

NAME = "growth"
# All sessions are of this length, so that only their number grows.
LENGTH = 100
# Rows. A table with fewer may be read from beginning to end, which is quick then.
SMALL = 5_000
Operation = Callable[[UUID], object]


def context(session: UUID) -> object:
    return turns.preview(Session.objects.get(pk=session), "", max_tokens=1500)


def history_page(session: UUID) -> object:
    return history.page(Session.objects.get(pk=session), newest_first=True, size=20)


def append(session: UUID) -> object:
    return turns.record(Session.objects.get(pk=session), stage.pair(0))


OPERATIONS: dict[str, Operation] = {"context": context, "history page": history_page, "append a turn": append}


def measured(operation: Operation, ids: list[UUID], times: int) -> tuple[float, float]:
    """Return the median milliseconds, elapsed and of this process, in sessions chosen at random."""
    spent, used = [], []
    for session in random.Random(7).choices(ids, k=times + 5):
        began, before = time.perf_counter(), time.process_time()
        operation(session)
        spent.append(1000 * (time.perf_counter() - began))
        used.append(1000 * (time.process_time() - before))
    return median(spent[5:]), median(used[5:])


@contextmanager
def captured() -> Iterator[dict[str, Any]]:
    """Collect the statements of this connection, each with the parameters it was sent with first."""
    statements: dict[str, Any] = {}

    def capture(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().upper().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            statements.setdefault(sql, params)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(capture):
        yield statements


def plan_of(sql: str, params: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", params)
        return "\n".join(row[0] for row in cursor.fetchall())


def big_tables() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples > %s", [SMALL])
        return {name for (name,) in cursor.fetchall()}


def plans(session: UUID) -> tuple[str, list[str]]:
    """Return the plans of all hot statements, and the big tables that one of them reads as a whole."""
    texts, whole, big = [], [], big_tables()
    for name, operation in OPERATIONS.items():
        with captured() as statements:
            operation(session)
        for sql, params in statements.items():
            plan = plan_of(sql, params)
            texts.append(f"-- {name}\n{sql}\n\n{plan}\n")
            whole += [f"{table} ({name})" for table in re.findall(r"Seq Scan on (\w+)", plan) if table in big]
    return "\n".join(texts), whole


def measure(sizes: Sizes) -> Section:
    section = Section(NAME)
    random_numbers = random.Random(1)
    ids: list[UUID] = []
    columns = ["operation", *(f"{count:,} messages, p50 ms" for count in sizes.grown), "growth, ×"]
    made = Table("The same request among more messages, in process", columns, bars=["growth, ×"])
    found: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    for count in sizes.grown:
        stage.progress(f"{count:,} messages")
        sessions = max(count // LENGTH - len(ids), 1)
        ids += seed.seed(stage.owner(), sessions=sessions, messages=min(LENGTH, count))
        seed.analyze()
        for name, operation in OPERATIONS.items():
            found[name].append(measured(operation, ids, sizes.times)[0])
    for name, values in found.items():
        made.add(name, *values, ratio(values[-1], values[0]))
        section.at_most(f"{name}, growth to {sizes.grown[-1]:,} messages", ratio(values[-1], values[0]), 1.15)
    section.tables.append(made)
    most = max(ratio(values[-1], values[0]) for values in found.values())
    title = f"context, history and append among {sizes.grown[-1]:,} messages instead of {sizes.grown[0]:,}"
    section.headlines.append([title, f"at most × {shown(most)}", ""])
    text, whole = plans(random_numbers.choice(ids))
    section.texts["plans"] = text
    section.at_most("hot statements that read a big table as a whole", len(whole), 0, "")
    section.notes += [f"Read as a whole: {table}." for table in whole]
    return section


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--most", type=int, default=0, help="a tenth of it, then so many messages")
    parser.add_argument("--yes", action="store_true", help="don't ask first")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--folder", type=Path, default=report.FOLDER)
    parser.add_argument("--here", type=Path)
    options = parser.parse_args()
    sizes = TINY if options.tiny else FULL
    if options.most:
        sizes = replace(sizes, grown=(10_000, options.most // 10, options.most))
    if options.here:
        running.save(options.here, running.timed(measure, sizes))
        return 0
    if options.most and not (options.yes or agrees()):
        return 1
    extra = ["--most", str(options.most)] if options.most else []
    (section,) = running.on_its_own("benchmarks.growth", *(["--tiny"] if options.tiny else []), *extra)
    report.print_section(section)
    if options.most:
        section.name = "growth-millions"
        report.write([section], options.folder, {})
    return 0


def agrees() -> bool:
    print("This takes about an hour, both cores and 20 GB in /tmp. Go on? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


if __name__ == "__main__":
    sys.exit(main())
