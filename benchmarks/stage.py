"""The common parts of the measurements: sizes, an owner with conversations, and the servers beside Convo."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model

from benchmarks import plain_drf
from benchmarks.processes import ROOT, Server, as_file, free_port, started, uvicorn
from convo import turns
from convo.history import NewMessage
from convo.models import NOBODY, ApiKey, Person, Session
from project import embedded

# The peers with pins of their own; `make bench` makes this environment from benchmarks/requirements.txt.
PEERS = Path(os.environ.get("CONVO_BENCH_PEERS", ROOT / ".venv" / "peers")) / "bin"
AGENTS = "default: assistant\nagents:\n  assistant: {model: chunks}\n  paced: {model: paced}\n"
WORDS = (
    "Some sixty tokens of plain talk about bags, chargers, prices and the weather in May make a message. " * 3
)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The extent of a run: a whole one, or one that only shows that everything works."""

    seconds: float = 3
    rounds: int = 2
    lengths: tuple[int, ...] = (10, 1_000)
    store_lengths: tuple[int, ...] = (10, 1_000, 10_000, 100_000)
    peer_most: int = 10_000
    times: int = 200
    at_once: tuple[int, ...] = (1, 32)
    streams: tuple[int, ...] = (1, 50, 200)
    paced_clients: tuple[int, ...] = (50, 200)
    crowd: int = 1_000
    pause: int = 20
    processes: int = 2
    writers_turns: int = 400
    message_counts: tuple[int, ...] = (10_000, 300_000)
    wal_appends: int = 20_000
    background_turns: int = 1_000


FULL = Sizes()
TINY = Sizes(
    seconds=0.1,
    rounds=1,
    lengths=(10,),
    store_lengths=(10,),
    peer_most=10,
    times=3,
    at_once=(2,),
    streams=(2,),
    paced_clients=(2,),
    crowd=3,
    pause=2,
    # A second server takes seconds to start.
    processes=1,
    # tests/test_concurrency.py lets writers append at once.
    writers_turns=0,
    message_counts=(100, 200),
    wal_appends=20,
    background_turns=5,
)


def owner() -> Any:
    return get_user_model().objects.get_or_create(username="benchmark")[0]


def issue_key(user: Any) -> str:
    return ApiKey.objects.issue(user)[1]


def new_sessions(user: Any, count: int) -> list[Session]:
    """Create sessions that belong to nobody in particular, as a key makes them."""
    person = Person.objects.get_or_create_by_ref(user, NOBODY)
    rows = [Session(owner=user, person=person, agent="assistant") for _ in range(count)]
    return Session.objects.bulk_create(rows)


def pair(number: int) -> list[NewMessage]:
    texts = [("user", f"Question {number}. {WORDS}"), ("assistant", f"Reply {number}. {WORDS}")]
    return [NewMessage(role=role, content=content) for role, content in texts]


def fill(session: Session, messages: int) -> None:
    """Append so many messages, some hundred at a time."""
    for begin in range(0, messages // 2, 250):
        numbers = range(begin, min(begin + 250, messages // 2))
        turns.record(session, [message for number in numbers for message in pair(number)])


def filled_sessions(user: Any, count: int, messages: int) -> list[UUID]:
    sessions = new_sessions(user, count)
    for session in sessions:
        fill(session, messages)
    return [session.pk for session in sessions]


def plain_sessions(user: Any, count: int, messages: int) -> list[UUID]:
    """Create sessions of the plain project with the same texts."""
    sessions = plain_drf.PlainSession.objects.bulk_create(
        plain_drf.PlainSession(owner=user, last_position=messages) for _ in range(count)
    )
    for session in sessions:
        texts = [each for number in range(messages // 2) for each in pair(number)]
        plain_drf.PlainMessage.objects.bulk_create(
            plain_drf.PlainMessage(session=session, position=at, role=text.role, content=text.content)
            for at, text in enumerate(texts, 1)
        )
    return [session.pk for session in sessions]


@contextmanager
def upstream(pause: int = 20) -> Iterator[Server]:
    """Serve the models `chunks` and `paced`, which pauses for so many milliseconds between two chunks."""
    port = free_port()
    with started(as_file("upstream.py", str(port), str(pause)), port=port) as server:
        yield server


@contextmanager
def valkey() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="convo-") as folder, embedded.valkey(Path(folder)) as url:
        yield url


@contextmanager
def convo(model: str, redis: str, *, processes: int = 1, **env: str) -> Iterator[Server]:
    """Serve Convo as in production; background work is left to workers, which are measured apart."""
    with tempfile.TemporaryDirectory(prefix="convo-") as folder:
        (agents := Path(folder) / "agents.yaml").write_text(AGENTS, encoding="utf-8")
        settings = {
            "CONVO_AGENTS_FILE": str(agents),
            "CONVO_WORK_THREADS": "0",
            "OPENAI_BASE_URL": f"{model}/v1",
            "OPENAI_API_KEY": "none",
            "REDIS_URL": redis,
            "WEB_CONCURRENCY": str(processes),
            **env,
        }
        port = free_port()
        command = uvicorn("project.asgi:application", port, processes=processes)
        with started(command, port=port, env=settings, path="/healthz") as server:
            yield server


@contextmanager
def plain() -> Iterator[Server]:
    port = free_port()
    settings = {"DJANGO_SETTINGS_MODULE": "benchmarks.plain_settings"}
    with started(uvicorn("benchmarks.plain_drf:application", port), port=port, env=settings) as server:
        yield server


@contextmanager
def pass_through(model: Server) -> Iterator[Server]:
    port = free_port()
    command = uvicorn("pass_through:application", port)
    command += ["--app-dir", "benchmarks", "--lifespan", "off"]
    with started(command, port=port, env={"OPENAI_BASE_URL": f"{model.url}/v1"}, path="/nothing") as server:
        yield server


LITELLM = """
model_list:
  - model_name: chunks
    litellm_params: {{model: openai/chunks, api_base: "{url}/v1", api_key: none}}
  - model_name: paced
    litellm_params: {{model: openai/paced, api_base: "{url}/v1", api_key: none}}
general_settings: {{master_key: "{key}"}}
"""
LITELLM_KEY = "sk-only-for-measurements"


@contextmanager
def litellm(model: Server) -> Iterator[Server]:
    """Serve LiteLLM's proxy, with its master key and without a database, as its quick start does."""
    if not (PEERS / "litellm").exists():
        raise FileNotFoundError(f"{PEERS / 'litellm'} is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="convo-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(LITELLM.format(url=model.url, key=LITELLM_KEY), encoding="utf-8")
        # It would fetch its list of prices, send statistics, and take DATABASE_URL for a database of its own.
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}
        command = [
            str(PEERS / "litellm"),
            "--config",
            str(config),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        with started(
            command, port=port, env=env, path="/health/liveliness", without=["DATABASE_URL"]
        ) as server:
            yield server


def peer_python() -> str:
    """Return the interpreter that has the peers' packages, or raise FileNotFoundError."""
    python = PEERS / "python"
    if not python.exists():
        raise FileNotFoundError(f"{python} is not installed")
    return str(python)


def progress(*words: object) -> None:
    print("  …", *words, file=sys.stderr, flush=True)
