"""The processes of a measurement: servers under test, the load on them, and what each of them costs."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Self

import psutil
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
# The requests that a server answers before it is measured.
WARM_UP = 30


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Tree:
    """A process with all its descendants."""

    def __init__(self, pid: int) -> None:
        self.root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        return [self.root, *self.root.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the processor time of all of them, also of those that have ended."""
        total = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory(self) -> int:
        """Return the bytes that would be free without them: their own, and their share of shared ones."""
        total = 0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total


def postgres_tree() -> Tree:
    """Return the database server of this process's connection: it is the parent of every backend."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    return Tree(psutil.Process(backend).ppid())


@dataclass(frozen=True)
class Server:
    """A server under test that answers."""

    port: int
    tree: Tree
    start_seconds: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def started(
    command: Sequence[str],
    *,
    port: int,
    env: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    path: str = "/",
) -> Iterator[Server]:
    """Run a server until the block ends. When the block begins, it answers HTTP at this path.

    `without` names variables of the environment that it must not see.
    """
    start = time.perf_counter()
    base_env = {name: value for name, value in os.environ.items() if name not in without}
    with tempfile.TemporaryFile("w+b") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**base_env, **(env or {})}, stdout=output, stderr=output
        )
        try:
            while not _answers(port, path):
                if process.poll() is not None or time.perf_counter() - start > START_SECONDS:
                    output.seek(0)
                    text = output.read().decode(errors="replace")[-3000:]
                    raise RuntimeError(f"{' '.join(command)} did not start:\n{text}")
                time.sleep(0.02)
            yield Server(port, Tree(process.pid), time.perf_counter() - start)
        finally:
            _end(process)


def _answers(port: int, path: str) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as wire:
        wire.settimeout(5)
        wire.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        return wire.recv(12).startswith(b"HTTP/1.1")
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    descendants = []
    with suppress(psutil.NoSuchProcess):
        descendants = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in descendants:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def uvicorn(application: str, port: int, *, processes: int = 1) -> list[str]:
    """Return the command that serves an application as `manage.py serve` does."""
    options = ["--host", "127.0.0.1", "--port", str(port), "--http", "httptools", "--ws", "none"]
    quiet = ["--log-level", "warning", "--no-access-log", "--backlog", "4096"]
    workers = ["--workers", str(processes)] if processes > 1 else []
    return [sys.executable, "-m", "uvicorn", application, *options, *quiet, *workers]


def as_file(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a file of this folder without Django."""
    return [sys.executable, "-P", str(ROOT / "benchmarks" / name), *arguments]


@dataclass(frozen=True)
class Load:
    """Requests of several clients to one server.

    Each client repeats one of the requests. With sessions, which are used once, it sends all of them to each:
    `load.SESSION` is replaced by the session's id.
    """

    requests: list[str]
    clients: int
    seconds: float = 3
    count: int = 1_000_000
    sessions: list[str] = field(default_factory=list)
    # Requests per second of all clients together; 0: as fast as they are answered.
    rate: float = 0
    # In the response: the text that its first useful byte comes with, and one that shows that it is whole.
    first: str = ""
    end: str = ""
    patience: float = 120


@dataclass
class Result:
    """The figures of the loads on one server."""

    responses: int = 0
    seconds: float = 0
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    server_cpu: float = 0
    postgres_cpu: float = 0
    load_cpu: float = 0

    @property
    def rate(self) -> float:
        return self.responses / self.seconds if self.seconds else 0.0

    @property
    def p50(self) -> float:
        return 1000 * median(self.latencies) if self.latencies else 0.0

    @property
    def first(self) -> float:
        return 1000 * median(self.firsts) if self.firsts else 0.0

    @property
    def server_ms(self) -> float:
        return 1000 * self.server_cpu / max(self.responses, 1)

    @property
    def postgres_ms(self) -> float:
        return 1000 * self.postgres_cpu / max(self.responses, 1)

    def add(self, other: Self) -> None:
        self.latencies += other.latencies
        self.firsts += other.firsts
        for name in ("responses", "seconds", "server_cpu", "postgres_cpu", "load_cpu"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.failures.items():
            self.failures[reason] = self.failures.get(reason, 0) + count


def fire(port: int, tree: Tree | None, load: Load) -> Result:
    """Send this load from a process of its own, and measure both sides."""
    plan = {**vars(load), "host": "127.0.0.1", "port": port}
    trees = [tree, postgres_tree()]
    before = [each.cpu_seconds() if each else 0.0 for each in trees]
    process = subprocess.run(
        as_file("load.py"), input=json.dumps(plan), capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise RuntimeError(process.stderr)
    after = [each.cpu_seconds() if each else 0.0 for each in trees]
    outcome: dict[str, Any] = json.loads(process.stdout)
    return Result(
        responses=outcome["answered"],
        seconds=outcome["seconds"],
        latencies=outcome["latencies"],
        firsts=outcome["firsts"],
        failures=outcome["failures"],
        server_cpu=after[0] - before[0],
        postgres_cpu=after[1] - before[1],
        load_cpu=outcome["cpu"],
    )


def warm_up(port: int, load: Load) -> None:
    """Send a few requests of this load that are not measured, unless the load itself is tiny."""
    if load.seconds >= 1:
        fire(port, None, replace(load, count=min(WARM_UP, load.count), seconds=10))


class Peak:
    """The most memory that a process tree has while the block runs, and what it had before."""

    def __init__(self, tree: Tree) -> None:
        self._tree, self._is_over = tree, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.maximum = tree.memory()

    def _watch(self) -> None:
        while not self._is_over.wait(0.25):
            self.maximum = max(self.maximum, self._tree.memory())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        self._thread.join()


def request(
    method: str, path: str, *, key: str = "", body: object = None, headers: Mapping[str, str] | None = None
) -> str:
    """Return the text of an HTTP request, with its body as JSON."""
    content = "" if body is None else json.dumps(body)
    lines = {"Host": "127.0.0.1", "Accept": "*/*", **(headers or {})}
    if key:
        lines["Authorization"] = f"Bearer {key}"
    if content:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(content.encode()))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n{content}"
