"""The time that Convo takes to start, and the memory that a web server and a worker have at rest."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import stage
from benchmarks.processes import ROOT, START_SECONDS, Load, Tree, fire, request
from benchmarks.report import Section, Table
from benchmarks.stage import Sizes

NAME = "resources"
REST_SECONDS = 2.0


@contextmanager
def worker(redis: str) -> Iterator[tuple[Tree, float]]:
    """Run a Celery worker with one process for tasks; yield it with the seconds that it took to start."""
    with tempfile.TemporaryDirectory(prefix="convo-") as folder:
        log = Path(folder) / "log"
        options = ["--concurrency", "1", "--loglevel", "info", "--beat", "--schedule", f"{folder}/schedule"]
        start = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "project", "worker", *options],
                cwd=ROOT,
                env={**os.environ, "REDIS_URL": redis},
                stdout=output,
                stderr=output,
            )
        try:
            while " ready." not in log.read_text(errors="replace"):
                if process.poll() is not None or time.perf_counter() - start > START_SECONDS:
                    raise RuntimeError(f"The worker did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.02)
            yield Tree(process.pid), time.perf_counter() - start
        finally:
            process.terminate()
            process.wait(60)


def measure(sizes: Sizes) -> Section:
    section, rest = Section(NAME), min(REST_SECONDS, sizes.seconds)
    table = Table("At rest", ["process", "start, seconds", "memory, MB"])
    user = stage.owner()
    key, (session,) = stage.issue_key(user), stage.filled_sessions(user, 1, 20)
    read = request("GET", f"/api/v1/sessions/{session}/history/", key=key)
    with stage.valkey() as redis, stage.upstream() as model:
        with stage.convo(model.url, redis) as server:
            fire(server.port, server.tree, Load([read], 4, seconds=5, count=100))
            time.sleep(rest)
            table.add("web server, after 100 requests", server.start_seconds, server.tree.memory() / 1e6)
        with stage.convo(model.url, "", CONVO_WORK_THREADS="2") as server:
            time.sleep(rest)
            table.add(
                "web server that works in the background", server.start_seconds, server.tree.memory() / 1e6
            )
        with worker(redis) as (tree, seconds):
            time.sleep(rest)
            table.add("Celery worker, one process for tasks", seconds, tree.memory() / 1e6)
    section.tables.append(table)
    return section
