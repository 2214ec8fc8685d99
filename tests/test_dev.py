"""`manage.py dev` and `manage.py serve`, started for real, as a person at a terminal does."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.servers import ROOT, Server, client_of

pytestmark = [pytest.mark.once, pytest.mark.slow]


class Dev:
    """A running `manage.py dev`: `url` answers, `exports` is what it says other commands need."""

    def __init__(self, data: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "dev", "--port", "0", "--data", str(data)],
            cwd=ROOT,
            env={**os.environ, "DEBUG": "1", "DATABASE_URL": "", "CONVO_OFFLINE_WORD_SECONDS": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = self.url = ""
        self.processes = [psutil.Process(self.process.pid)]

    def answer(self, data: Path) -> None:
        """Wait until it answers, and learn what it consists of."""
        self.url = self.read_until(r"^(http://\S+)/$")
        self.exports = dict(re.findall(r"(\w+_URL)='(\S+)'", self.said))
        postmaster = int((data / "postgres" / "postmaster.pid").read_text().split()[0])
        self.processes += [*self.processes[0].children(recursive=True), psutil.Process(postmaster)]

    def read_until(self, pattern: str) -> str:
        """What the pattern's group matches, as soon as the command has written it."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if match := re.search(pattern, self.said, re.MULTILINE):
                return match[1]
        raise AssertionError(f"`manage.py dev` ended and said:\n{self.said}")

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        self.said += self.process.communicate(timeout=60)[0]
        return self.process.returncode

    def left_over(self) -> list[psutil.Process]:
        _gone, alive = psutil.wait_procs(self.processes, timeout=5)
        return list(alive)


@contextmanager
def dev(data: Path) -> Iterator[Dev]:
    running = Dev(data)
    try:
        running.answer(data)
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            running.wait()
        for process in running.left_over():
            process.kill()


def create_key(username: str, exports: dict[str, str]) -> str:
    command = [sys.executable, "manage.py", "create_key", username]
    return subprocess.check_output(command, cwd=ROOT, env={**os.environ, **exports}, text=True).strip()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all, because to make it anew takes as long as to start everything in it."""
    return tmp_path_factory.mktemp("dev")


def test_dev_keeps_its_data_leaves_no_process_and_says_which_part_died(data: Path) -> None:
    with dev(data) as first:
        key = {"Authorization": f"Bearer {create_key('alice', first.exports)}"}
        made = httpx2.post(f"{first.url}/api/v1/sessions/", json={}, headers=key, trust_env=False, timeout=60)
        assert made.status_code == 201, made.text
        kinds = {process.name().split(":")[0] for process in first.processes}
        assert {"postgres", "valkey-server"} <= kinds
        # As a terminal does it: Ctrl-C goes to the whole group, the servers too.
        os.killpg(first.process.pid, signal.SIGINT)
        assert first.wait() == 0, first.said
        assert first.left_over() == []

    with dev(data) as second:
        session = f"{second.url}/api/v1/sessions/{made.json()['id']}/"
        assert httpx2.get(session, headers=key, trust_env=False, timeout=60).status_code == 200
        assert_its_end_is_noticed(second, "worker", "The Celery worker")


def test_dev_says_that_its_web_server_died(data: Path) -> None:
    with dev(data) as running:
        assert_its_end_is_noticed(running, "serve", "The web server")


def assert_its_end_is_noticed(running: Dev, command: str, name: str) -> None:
    victim = next(child for child in running.processes[1:] if command in child.cmdline())
    victim.kill()
    assert running.wait() == 1
    assert f"{name} ended by itself" in running.said
    assert running.left_over() == []


def test_serve_takes_the_next_port_when_its_own_is_taken(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    first = serve()
    port = int(first.url.rpartition(":")[2])
    second = serve(port=port)
    assert int(second.url.rpartition(":")[2]) > port
    with client_of(second) as client:
        assert client.get("/sign-in/").status_code == 200


def test_serve_listens_on_the_loopback_interface_only(serve: Callable[..., Server]) -> None:
    port = int(serve().url.rpartition(":")[2])
    listening = [
        c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"
    ]
    assert {connection.laddr.ip for connection in listening if connection.laddr} == {"127.0.0.1"}


def test_serve_refuses_a_database_without_its_tables(tmp_path: Path) -> None:
    command = [sys.executable, "manage.py", "serve", "--port", "0"]
    env = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/empty.sqlite3"}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "manage.py migrate" in ran.stderr
