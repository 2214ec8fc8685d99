"""Half an hour of mixed load on one server with a worker: does anything grow?

`make endurance SECONDS=1800` lets the clients of `make soak` act, without its kills, and draws memory,
latency, threads, files and connections over time into docs/performance.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

import psutil
from django.db import connection

from benchmarks import report, running, stage
from benchmarks.processes import Server, Tree
from benchmarks.report import Chart, Section, Table, ratio
from benchmarks.resources import worker
from benchmarks.stage import Sizes
from tests.clients import Client
from tests.recorded import DONE, read_back
from tests.soak import AGENTS, CLIENTS, SHARED_SESSIONS, acting
from tests.upstream import Upstream

NAME = "endurance"
SAMPLES = 180
# What is loaded when it is needed first doesn't count as growth.
WARM_SHARE = 0.1
LATENCY = "latency, p50 ms"


def over(tree: Tree, value: Callable[[psutil.Process], int]) -> float:
    total = 0
    for process in tree.processes():
        with suppress(psutil.NoSuchProcess):
            total += value(process)
    return float(total)


def connections_now() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        return float(cursor.fetchone()[0])


class Sampler:
    """What the server and the worker hold, at equal distances in time."""

    def __init__(self, server: Server, task_worker: Tree) -> None:
        self.moments: list[float] = []
        self.values: dict[str, list[float]] = {}
        self._measures: dict[str, Callable[[], float]] = {
            "web memory, MB": lambda: server.tree.memory() / 1e6,
            "worker memory, MB": lambda: task_worker.memory() / 1e6,
            "web threads": lambda: over(server.tree, lambda process: process.num_threads()),
            "web file descriptors": lambda: over(server.tree, lambda process: process.num_fds()),
            "PostgreSQL connections": connections_now,
        }

    def run(self, seconds: float) -> None:
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            self.moments.append(now)
            for name, measure in self._measures.items():
                self.values.setdefault(name, []).append(measure())
            time.sleep(max(seconds / SAMPLES - (time.monotonic() - began - now), 0.05))


def latencies(history: Path, began: float, moments: list[float]) -> list[float]:
    """Return the median milliseconds of what was done up to each moment since the one before."""
    deeds = [deed for deed in read_back(history) if deed.outcome == DONE]
    values, last = list[float](), 0.0
    for before, after in zip([0.0, *moments], moments, strict=False):
        spent = [1000 * (each.ended - each.began) for each in deeds if before < each.ended - began <= after]
        last = median(spent) if spent else last
        values.append(last)
    return values


def measure(seconds: float) -> Section:
    section = Section(NAME)
    user = stage.owner()
    key = stage.issue_key(user)
    shared = [str(session.pk) for session in stage.new_sessions(user, SHARED_SESSIONS)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="convo-")))
        (agents := folder / "agents.yaml").write_text(
            AGENTS + "  assistant: {model: words-20}\n", encoding="utf-8"
        )
        redis, model = stack.enter_context(stage.valkey()), stack.enter_context(Upstream())
        os.environ.update(CONVO_AGENTS_FILE=str(agents), OPENAI_BASE_URL=model.url, OPENAI_API_KEY="none")
        server = stack.enter_context(
            stage.convo(model.url.removesuffix("/v1"), redis, CONVO_AGENTS_FILE=str(agents))
        )
        task_worker, _ = stack.enter_context(worker(redis))
        history = folder / "history.jsonl"
        clients = [
            Client(number, seed=7, urls=[server.url], key=key, shared=shared, history=history)
            for number in range(CLIENTS)
        ]
        sampler, began = Sampler(server, task_worker), time.monotonic()
        with acting(clients):
            sampler.run(seconds)
        sampler.values[LATENCY] = latencies(history, began, sampler.moments)
        deeds = read_back(history)
    add_figures(section, sampler.moments, sampler.values)
    done = sum(deed.outcome == DONE for deed in deeds)
    section.notes.append(f"{done:,} requests of {len(deeds):,} were answered in {seconds:,.0f} seconds.")
    return section


def add_figures(section: Section, moments: list[float], values_by_name: dict[str, list[float]]) -> None:
    made = Table("Over time", ["what", "at the beginning", "at the end", "most", "end × beginning"])
    first = int(len(moments) * WARM_SHARE)
    quarter = max((len(moments) - first) // 4, 1)
    for name, values in values_by_name.items():
        begin, end = median(values[first : first + quarter]), median(values[-quarter:])
        made.add(name, begin, end, max(values), ratio(end, begin))
        section.at_most(f"{name}, last quarter × first", ratio(end, begin), 1.1)
    section.tables.append(made)
    minutes = [moment / 60 for moment in moments]
    section.charts.append(Chart("Mixed load with a worker", "minutes", minutes, values_by_name))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--folder", type=Path, default=report.FOLDER)
    parser.add_argument("--here", type=Path)
    options = parser.parse_args()
    if options.here:

        def measured(_: Sizes) -> Section:
            return measure(options.seconds)

        running.save(options.here, running.timed(measured, stage.FULL))
        return 0
    (section,) = running.on_its_own("benchmarks.endurance", "--seconds", str(options.seconds))
    report.print_section(section)
    report.write([section], options.folder, {})
    return 0


if __name__ == "__main__":
    sys.exit(main())
