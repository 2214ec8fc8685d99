"""What the tests of faults share: a conversation over HTTP, waiting for what must come, other servers."""

import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from django.db import connection

from tests.nursery import begin
from tests.servers import START_SECONDS, Server, database_url

# Short enough for a test to see them pass, and far from what a busy machine takes for a beat.
LEASE_SECONDS = 3
QUICK = {
    "CONVO_LEASE_SECONDS": str(LEASE_SECONDS),
    "CONVO_HEARTBEAT_SECONDS": "0.1",
    "CONVO_CHECKPOINT_SECONDS": "0.1",
    "CONVO_SWEEP_SECONDS": "0.5",
    "CONVO_FOLLOW_SECONDS": "0.2",
    "CONVO_SSE_HEARTBEAT_SECONDS": "0.1",
}
# The same without a sweep, for servers that stay for the next test and do no background work.
QUICK_LEASES = {name: value for name, value in QUICK.items() if name != "CONVO_SWEEP_SECONDS"}
NEVER = "100000"
# As an operator starts it: with the lifespan, and with an end to its patience.
GRANIAN = "granian --interface asgi --workers-kill-timeout 5"


def wait_until(true: Callable[[], Any], *, seconds: float = 30) -> Any:
    """What `true` answers as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
    return found


def events(response: httpx2.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the data of each event, as it comes."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        if line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def new_session(client: httpx2.Client) -> str:
    made = client.post("/api/v1/sessions/", json={})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def ask(client: httpx2.Client, session: str, message: str = "hello", **fields: Any) -> httpx2.Response:
    """The whole answer to this question."""
    return client.post(f"/api/v1/sessions/{session}/query/", json={"message": message, **fields})


@contextmanager
def asking(
    client: httpx2.Client, session: str, message: str = "hello", **fields: Any
) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """The answer's events, as they come."""
    body = {"message": message, "stream": True, **fields}
    with client.stream("POST", f"/api/v1/sessions/{session}/query/", json=body) as response:
        assert response.status_code == 200, response.read()
        yield events(response)


def said(client: httpx2.Client, session: str) -> list[str]:
    """The transcript, as "u:hello" and "a:hi"; its positions go up."""
    page = client.get(f"/api/v1/sessions/{session}/history/", params={"page_size": 100}).json()
    positions = [row["position"] for row in page["results"]]
    assert positions == sorted(set(positions))
    return [f"{row['role'][0]}:{row['content']}" for row in page["results"]]


def turn(client: httpx2.Client, session: str, number: int) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/v1/sessions/{session}/turns/{number}/").json()
    return found


def manage(*arguments: str, **env: str) -> str:
    """What a `manage.py` command prints; one that fails fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        said, told = Path(folder, "said"), Path(folder, "told")
        given = {"DATABASE_URL": database_url(), **env}
        status = begin(["manage.py", *arguments], stdout=said, stderr=told, env=given).wait(120)
        output = said.read_text(encoding="utf-8")
        assert status == 0, output + told.read_text(encoding="utf-8")
    return output.strip()


def too_large_for_sqlite() -> int:
    """So many bytes do not fit into the pages that the file has, with those that are free in it."""
    with connection.cursor() as cursor:
        sizes = []
        for name in ("freelist_count", "page_size"):
            cursor.execute(f"PRAGMA {name}")
            sizes.append(cursor.fetchone()[0])
    return int(sizes[0] * sizes[1]) + 1_000_000


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class OtherServer(Server):
    """The application under another command than `manage.py serve`."""

    def __init__(
        self, log: Path, command: str, *, application: str = "project.asgi:application", **env: str
    ) -> None:
        port = str(free_port())
        self._log = log
        self.url = f"http://127.0.0.1:{port}"
        argv = ["-m", *command.split(), "--port", port, application]
        given = {"DATABASE_URL": database_url(), **env}
        self.process = begin(argv, stdout=log, stderr=log, own_group=True, env=given)
        wait_until(self._answers, seconds=START_SECONDS)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return httpx2.get(f"{self.url}/healthz", timeout=5, trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """End it at once, with the processes that it has begun."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        super().kill()
