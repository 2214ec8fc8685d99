"""Half an hour of mixed load on one server with a worker, to see whether anything grows.

`make endurance SECONDS=1800` lets the clients of `make soak` act, without its kills, and draws memory,
latency, threads, files and connections over time into docs/performance.
"""

import os
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

import psutil
from django.db import connection

from benchmarks import stage
from benchmarks.processes import Server, Tree
from benchmarks.report import Chart, Section, Table, ratio
from benchmarks.resources import worker
from tests.clients import Client
from tests.recorded import DONE, read_back
from tests.soak import AGENTS, CLIENTS, SHARED_SESSIONS, acting
from tests.upstream import Upstream

NAME = "endurance"
SAMPLES = 180
# Growth is counted from here: modules and models are loaded when they are first needed.
WARM_SHARE = 0.1
LATENCY, CPU = "latency, p50 ms", "web CPU, ms a request"


def sum_over(tree: Tree, value: Callable[[psutil.Process], int]) -> float:
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
    """Samples of what the server and the worker hold, at equal distances in time."""

    def __init__(self, server: Server, task_worker: Tree) -> None:
        self.moments: list[float] = []
        self.values: dict[str, list[float]] = {}
        # Seconds since the beginning.
        self.cpu: list[float] = []
        self._server = server
        self._measures: dict[str, Callable[[], float]] = {
            "web memory, MB": lambda: server.tree.memory() / 1e6,
            "worker memory, MB": lambda: task_worker.memory() / 1e6,
            "web threads": lambda: sum_over(server.tree, lambda process: process.num_threads()),
            "web file descriptors": lambda: sum_over(server.tree, lambda process: process.num_fds()),
            "PostgreSQL connections": connections_now,
        }

    def run(self, seconds: float) -> None:
        start, cpu_before = time.monotonic(), self._server.tree.cpu_seconds()
        while (now := time.monotonic() - start) < seconds:
            self.moments.append(now)
            self.cpu.append(self._server.tree.cpu_seconds() - cpu_before)
            for name, measure in self._measures.items():
                self.values.setdefault(name, []).append(measure())
            time.sleep(max(seconds / SAMPLES - (time.monotonic() - start - now), 0.05))


def of_requests(history: Path, start: float, sampler: Sampler) -> dict[str, list[float]]:
    """Return what a request took between each moment and the one before; where none ended, as before that."""
    deeds = [deed for deed in read_back(history) if deed.outcome == DONE]
    values: dict[str, list[float]] = {LATENCY: [], CPU: []}
    window = zip([0.0, *sampler.moments], sampler.moments, [0.0, *sampler.cpu], sampler.cpu, strict=False)
    last = 0.0, 0.0
    for begin, end, cpu_before, cpu in window:
        times = [each.ended - each.began for each in deeds if begin < each.ended - start <= end]
        if times:
            last = 1000 * median(times), 1000 * (cpu - cpu_before) / len(times)
        for name, value in zip(values, last, strict=True):
            values[name].append(value)
    return values


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--stock-handler", action="store_true", help="serve by Django's own ASGI handler")


def measure(options: Namespace) -> Section:
    section = Section(f"{NAME}-stock-handler" if options.stock_handler else NAME)
    user = stage.owner()
    key = stage.issue_key(user)
    shared = [str(session.pk) for session in stage.new_sessions(user, SHARED_SESSIONS)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="convo-")))
        (agents := folder / "agents.yaml").write_text(
            AGENTS + "  assistant: {model: words-20}\n", encoding="utf-8"
        )
        redis, model = stack.enter_context(stage.valkey()), stack.enter_context(Upstream())
        if options.stock_handler:
            os.environ["CONVO_REQUEST_THREADS"] = "0"
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
        sampler, start = Sampler(server, task_worker), time.monotonic()
        with acting(clients):
            sampler.run(options.seconds)
        sampler.values |= of_requests(history, start, sampler)
        deeds = read_back(history)
    add_figures(section, sampler.moments, sampler.values)
    answer_count = sum(deed.outcome == DONE for deed in deeds)
    section.notes.append(
        f"{answer_count:,} requests of {len(deeds):,} were answered in {options.seconds:,.0f} seconds."
    )
    return section


def add_figures(section: Section, moments: list[float], values_by_name: dict[str, list[float]]) -> None:
    table = Table("Over time", ["what", "at the beginning", "at the end", "most", "end × beginning"])
    first = int(len(moments) * WARM_SHARE)
    quarter = max((len(moments) - first) // 4, 1)
    for name, values in values_by_name.items():
        begin, end = median(values[first : first + quarter]), median(values[-quarter:])
        table.add(name, begin, end, max(values), ratio(end, begin))
        section.at_most(f"{name}, last quarter × first", ratio(end, begin), 1.1)
    section.tables.append(table)
    minutes = [moment / 60 for moment in moments]
    section.charts.append(Chart("Mixed load with a worker", "minutes", minutes, values_by_name))
