"""Real servers for the tests: `manage.py serve`, a process of its own on the running test's database."""

import os
import re
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from django.db import connection

from tests.nursery import POLL_SECONDS, Process, begin

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
STOP_SECONDS = 20
# So few that their connections leave room for what a test starts of its own.
MOST_STANDING = 4
STANDING = {"CONVO_POOL_SIZE": "10"}
# They do no background work unless a test asks for it, with WORKS or another time for the sweep: what they
# find would be another test's.
IDLE = {"CONVO_WORK_THREADS": "0"}
SWEEP = "CONVO_SWEEP_SECONDS"
WORKS = {SWEEP: "0.3"}


def database_url() -> str:
    """The DATABASE_URL under which another process finds the database that Django made for the tests."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


class Server:
    """A Convo server that answers from the moment this value exists; `env` goes over the tests' own."""

    def __init__(self, log: Path, *, port: int = 0, **env: str) -> None:
        self._log, self._said = log, log.with_suffix(".said")
        command = ["manage.py", "serve", "--port", str(port)]
        given = {"DATABASE_URL": database_url(), **env}
        self.process: Process = begin(command, stdout=self._said, stderr=log, env=given)
        self.url = self._announced()

    def _announced(self) -> str:
        """The URL that the server prints when it answers."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            said = self._said.read_text(encoding="utf-8") if self._said.exists() else ""
            if found := re.search(r"^(http://\S+)/\n", said, re.MULTILINE):
                return found[1]
            time.sleep(POLL_SECONDS)
        self.kill()
        raise AssertionError(f"The server did not start:\n{self.log()}")

    def stop(self) -> int:
        """Ask it to end, as an operator does, and wait; answers its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """All that it has written to stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class Standing:
    """Servers that outlive the test that asked for them: starting one takes two seconds of a processor."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[tuple[int, tuple[tuple[str, str], ...]], Server] = {}
        self._started = 0

    def get(self, number: int, env: dict[str, str]) -> Server:
        """The server of this number and environment; a new one if there is none, or it has died."""
        key = (number, tuple(sorted(env.items())))
        server = self._servers.pop(key, None)
        if server is None or server.process.poll() is not None:
            # The one that was asked for longest ago makes room.
            while len(self._servers) >= MOST_STANDING:
                self._servers.pop(next(iter(self._servers))).kill()
            self._started += 1
            given = STANDING | ({} if SWEEP in env else IDLE) | env
            server = Server(self._folder / f"{self._started}.log", port=0, **given)
        self._servers[key] = server
        return server

    def end_working(self) -> None:
        """End those that do background work, before the tables are emptied and another test has them."""
        for key, server in list(self._servers.items()):
            if SWEEP in dict(key[1]):
                server.kill()
                del self._servers[key]

    def end(self) -> None:
        """End them all; whoever asks again gets new ones."""
        for server in self._servers.values():
            server.kill()
        self._servers.clear()


def client_of(server: Server, key: str = "") -> httpx2.Client:
    """An HTTP client that talks to this server with this API key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.Client(base_url=server.url, headers=headers, timeout=30, trust_env=False)
