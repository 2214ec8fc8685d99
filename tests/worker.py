"""Real Celery workers for the tests: a process of its own on the running test's database."""

import os
import signal
from pathlib import Path

import psutil

from tests.faults import wait_until
from tests.nursery import begin
from tests.servers import START_SECONDS, database_url


class CeleryWorker:
    """A worker that takes tasks from the moment this value exists; with `beat` it also sends the sweeps."""

    def __init__(self, log: Path, *, pool: str = "prefork", beat: bool = True, **env: str) -> None:
        self._log = log
        options = [
            "--pool",
            pool,
            "--concurrency",
            "2",
            "--loglevel",
            "info",
            "--hostname",
            f"{log.stem}@test",
        ]
        if beat:
            options += ["--beat", "--schedule", str(log.with_suffix(".schedule"))]
        command = ["-m", "celery", "--app", "project", "worker", *options]
        given = {"DATABASE_URL": database_url(), **env}
        self.process = begin(command, stdout=log, stderr=log, own_group=True, env=given)
        wait_until(self._ready, seconds=START_SECONDS)

    def _ready(self) -> bool:
        assert self.alive, self.log()
        return " ready." in self.log()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill_child(self, port: int) -> None:
        """End at once the process that does this worker's work and talks to this port; another is started."""
        (talking,) = (
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if any(peer.raddr and peer.raddr.port == port for peer in child.net_connections("tcp"))
        )
        talking.kill()

    def kill(self) -> None:
        """End all of it at once, in the middle of whatever it does."""
        if self.alive:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, as an operator does."""
        self.process.send_signal(number)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""
