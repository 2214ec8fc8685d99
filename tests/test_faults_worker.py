"""Workers, brokers and clocks die, hang and come back: what was behind is done, and once."""

import re
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
import pytest
from celery import Celery

from convo import turns
from convo.history import NewMessage
from convo.models import ME, Person, Session, Summary, Work
from tests.conftest import Serve
from tests.faults import NEVER, QUICK, ask, free_port, new_session, wait_until
from tests.proxy import Fault, Proxy
from tests.servers import STOP_SECONDS, client_of
from tests.support.valkey import Valkey
from tests.upstream import Upstream
from tests.worker import CeleryWorker

# Workers run beside PostgreSQL; a server alone, beside SQLite.
pytestmark = pytest.mark.django_db(transaction=True)

# Due after two exchanges that are no longer among those shown in full, of which there is one.
AGENTS = """
default: talker
agents:
  talker: {model: words, summaries: true, summary_turns: 2, window_pairs: 1, recall: 0, learn: false}
"""
ENOUGH = 3
LEASE_SECONDS = 3
Begin = Callable[..., CeleryWorker]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Valkey]:
    """The broker, which a test may harm."""
    valkey = Valkey(tmp_path / "valkey", free_port())
    valkey.start()
    yield valkey
    with suppress(ProcessLookupError):
        valkey.kill()


@pytest.fixture
def env(tmp_path: Path, upstream: Upstream) -> dict[str, str]:
    """The environment of workers and servers; a summary waits at the model until it is released."""
    (tmp_path / "agents.yaml").write_text(AGENTS)
    return {
        **QUICK,
        "CONVO_AGENTS_FILE": str(tmp_path / "agents.yaml"),
        "OPENAI_BASE_URL": upstream.url,
        "CONVO_BACKGROUND_MODEL": "hold",
        "CONVO_WORK_LEASE_SECONDS": str(LEASE_SECONDS),
        "CONVO_WORK_RETRY_SECONDS": "0.5",
        "CONVO_WORKER_STOP_SECONDS": "1",
    }


@pytest.fixture
def work(env: dict[str, str], store: Valkey, tmp_path: Path) -> Iterator[Begin]:
    """Starts real workers on that broker; they end with the test."""
    workers: list[CeleryWorker] = []

    def start(**fields: Any) -> CeleryWorker:
        log = tmp_path / f"worker-{len(workers)}.log"
        workers.append(CeleryWorker(log, **{**env, "CELERY_BROKER_URL": f"{store.url}/1", **fields}))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        print(f"--- a worker wrote:\n{worker.log()}")


@pytest.fixture
def behind(alice: Any) -> Callable[[], UUID]:
    """A session that a summary is due in, with nobody told."""
    person = Person.objects.get_or_create_by_ref(alice, ME)

    def make() -> UUID:
        session = Session.objects.create(owner=alice, person=person, agent="talker")
        for number in range(ENOUGH):
            exchange = [
                NewMessage(role="user", content=f"question {number}"),
                NewMessage(role="assistant", content="yes"),
            ]
            turns.record(session, exchange)
        return session.pk

    return make


def send(store: Valkey, task: str = "convo.tasks.run", **kwargs: Any) -> None:
    """Put a task on the broker, as any version of the program may have sent it."""
    app = Celery(broker=f"{store.url}/1", set_as_current=False)
    with app.connection_for_write() as connection:
        app.send_task(task, kwargs=kwargs, connection=connection)


def hint(store: Valkey, session: UUID, **unknown: Any) -> None:
    send(store, name="summarise", pk=str(session), **unknown)


def summaries(session: UUID) -> int:
    return Summary.objects.filter(session=session).count()


def sweeps(worker: CeleryWorker) -> int:
    """How many sweeps this worker has done."""
    return len(re.findall(r"Task convo\.tasks\.sweep\S+ succeeded", worker.log()))


def asked(upstream: Upstream) -> int:
    """How many model calls the background has made."""
    return sum(heard["model"] == "hold" for heard in upstream.heard)


def port_of(upstream: Upstream) -> int:
    return urlsplit(upstream.url).port or 0


def once(session: UUID) -> None:
    """There comes one summary and stays the only one, and the ledger forgets about it."""
    wait_until(lambda: summaries(session))
    wait_until(lambda: not Work.objects.items().exists())
    time.sleep(3 * float(QUICK["CONVO_SWEEP_SECONDS"]))
    assert summaries(session) == 1
    assert not Work.objects.items().exists()


# Workers die.


@pytest.mark.postgres
def test_a_worker_process_killed_in_the_middle_leaves_one_summary(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream
) -> None:
    """F4"""
    session = behind()
    worker = work()
    wait_until(lambda: asked(upstream) == 1)
    worker.kill_child(port_of(upstream))
    wait_until(lambda: asked(upstream) == 2)
    upstream.release()
    once(session)
    assert worker.alive
    assert asked(upstream) == 2


@pytest.mark.postgres
def test_a_whole_worker_killed_in_the_middle_leaves_one_summary(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream
) -> None:
    """F5"""
    session = behind()
    first = work()
    wait_until(lambda: asked(upstream) == 1)
    first.kill()
    began = time.monotonic()
    work()
    wait_until(lambda: asked(upstream) == 2)
    assert time.monotonic() - began < 20
    upstream.release()
    once(session)
    assert asked(upstream) == 2


@pytest.mark.postgres
def test_work_that_kills_its_worker_every_time_is_given_up_and_the_rest_goes_on(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream
) -> None:
    """F6"""
    poison = behind()
    worker = work(CONVO_WORK_ATTEMPTS="2")
    for attempt in (1, 2):
        wait_until(lambda: asked(upstream) == attempt)  # noqa: B023
        worker.kill_child(port_of(upstream))
    dead = wait_until(lambda: Work.objects.dead().first())
    assert (dead.kind, dead.target, dead.attempts) == ("summarise", str(poison), 2)
    upstream.release()
    harmless = behind()
    wait_until(lambda: summaries(harmless))
    assert worker.alive
    assert summaries(poison) == 0
    assert Work.objects.retry() == 1
    wait_until(lambda: summaries(poison))


@pytest.mark.postgres
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_is_told_to_end_finishes_first(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream, pool: str
) -> None:
    """F9"""
    session = behind()
    worker = work(pool=pool)
    wait_until(lambda: asked(upstream) == 1)
    worker.terminate()
    time.sleep(1)
    assert worker.alive
    assert summaries(session) == 0
    upstream.release()
    assert worker.process.wait(STOP_SECONDS) == 0
    assert (summaries(session), asked(upstream)) == (1, 1)
    assert not Work.objects.items().exists()


@pytest.mark.postgres
def test_a_worker_that_may_not_finish_leaves_the_work_to_the_next(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream
) -> None:
    """F9: told to hurry, it hands back what it is at."""
    session = behind()
    worker = work()
    wait_until(lambda: asked(upstream) == 1)
    worker.terminate(signal.SIGQUIT)
    worker.process.wait(STOP_SECONDS)
    assert summaries(session) == 0
    work()
    wait_until(lambda: asked(upstream) == 2)
    upstream.release()
    once(session)


# Tasks come twice, at once, or from another version.


@pytest.mark.postgres
def test_a_task_that_is_delivered_again_asks_no_model_again(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream, store: Valkey
) -> None:
    """F7"""
    session = behind()
    worker = work(beat=False)
    upstream.release()
    for delivered in (1, 2, 3):
        hint(store, session)
        wait_until(lambda: worker.log().count("succeeded") == delivered)  # noqa: B023
    assert (summaries(session), asked(upstream)) == (1, 1)


@pytest.mark.postgres
def test_a_task_that_runs_twice_at_once_asks_one_model(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream, store: Valkey
) -> None:
    """F8"""
    session = behind()
    first, second = work(beat=False), work(beat=False, pool="threads")
    for _ in range(8):
        hint(store, session)
    wait_until(lambda: (first.log() + second.log()).count("succeeded") == 7)
    wait_until(lambda: asked(upstream))
    time.sleep(1)
    assert asked(upstream) == 1
    upstream.release()
    wait_until(lambda: (first.log() + second.log()).count("succeeded") == 8)
    assert (summaries(session), asked(upstream)) == (1, 1)


@pytest.mark.postgres
def test_tasks_of_other_versions_do_no_harm_and_what_they_meant_is_done(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream, store: Valkey
) -> None:
    """F11"""
    session = behind()
    upstream.release()
    worker = work(beat=False)
    send(store, name="other_kind", pk=str(session))
    send(store)
    send(store, "convo.tasks.of_tomorrow", pk="1")
    send(store, "convo.tasks.sweep", only="learn", since=4)
    wait_until(lambda: summaries(session))
    # The sweep itself must not find what only the next hint is about.
    wait_until(lambda: not Work.objects.filter(lease_until__isnull=False).exists())
    later = behind()
    hint(store, later, epoch=3)
    wait_until(lambda: summaries(later))
    wait_until(lambda: not Work.objects.items().exists())
    assert worker.alive


@pytest.mark.postgres
def test_after_an_hour_without_a_clock_two_at_once_do_everything_once(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream
) -> None:
    """F10"""
    upstream.release()
    sessions = [behind() for _ in range(5)]
    work(), work(pool="threads")
    for session in sessions:
        wait_until(lambda: summaries(session))  # noqa: B023
    once(sessions[0])
    assert [summaries(session) for session in sessions] == [1] * 5
    assert asked(upstream) == 5


# The broker dies, forgets, refuses or hangs.


@pytest.mark.postgres
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_survives_its_broker(
    work: Begin, behind: Callable[[], UUID], upstream: Upstream, store: Valkey, pool: str
) -> None:
    """F15: killed while a task is in flight, and back."""
    session = behind()
    worker = work(pool=pool)
    wait_until(lambda: asked(upstream) == 1)
    store.kill()
    time.sleep(2)
    assert worker.alive
    upstream.release()
    wait_until(lambda: summaries(session))
    store.start()
    later = behind()
    wait_until(lambda: summaries(later), seconds=60)
    assert worker.alive
    once(session)
    assert asked(upstream) == 2


def converse(client: httpx2.Client, exchanges: int = ENOUGH) -> tuple[UUID, list[float]]:
    """A session that gets a summary due, and how long each of its requests took."""
    session = new_session(client)
    took = []
    for number in range(exchanges):
        began = time.monotonic()
        response = ask(client, session, f"question {number}")
        took.append(time.monotonic() - began)
        assert response.status_code == 200, response.text
    return UUID(session.removeprefix("conv_")), took


@pytest.mark.postgres
def test_hints_that_the_broker_forgot_are_made_up_for(
    work: Begin, serve: Serve, env: dict[str, str], upstream: Upstream, store: Valkey, alice_key: str
) -> None:
    """F16b"""
    upstream.release()
    server = serve(**{**env, "CELERY_BROKER_URL": f"{store.url}/1", "CONVO_SWEEP_SECONDS": NEVER})
    with client_of(server, alice_key) as client, store.client() as broker:
        session, _ = converse(client)
        broker.select(1)
        wait_until(lambda: broker.llen("celery"))
        broker.flushall()
        worker = work()
        wait_until(lambda: summaries(session))
        broker.flushall()
        later, _ = converse(client)
        wait_until(lambda: summaries(later))
        assert worker.alive


@pytest.mark.postgres
def test_hints_reach_a_worker_at_once(
    work: Begin, serve: Serve, env: dict[str, str], upstream: Upstream, store: Valkey, alice_key: str
) -> None:
    upstream.release()
    server = serve(**{**env, "CELERY_BROKER_URL": f"{store.url}/1", "CONVO_SWEEP_SECONDS": NEVER})
    work(beat=False)
    with client_of(server, alice_key) as client:
        session, _ = converse(client)
        wait_until(lambda: summaries(session))


@pytest.mark.postgres
@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG], ids=lambda fault: fault.name.lower())
def test_a_broker_that_is_away_is_felt_by_no_request_and_made_up_for_in_one_sweep(
    work: Begin,
    serve: Serve,
    env: dict[str, str],
    upstream: Upstream,
    store: Valkey,
    alice_key: str,
    fault: Fault,
) -> None:
    """F16f: one sweep, the only one that there is, does all that was missed."""
    upstream.release()
    with Proxy(store.port) as proxy:
        broker = f"redis://127.0.0.1:{proxy.port}/1"
        server = serve(**{**env, "CELERY_BROKER_URL": broker, "CONVO_SWEEP_SECONDS": NEVER})
        worker = work(CELERY_BROKER_URL=broker, beat=False)
        with client_of(server, alice_key) as client:
            first, usual = converse(client)
            wait_until(lambda: summaries(first))
            proxy.fail(fault)
            away = [converse(client) for _ in range(5)]
            took = [seconds for _, found in away for seconds in found]
            assert statistics.median(took) < statistics.median(usual) + 0.2
            assert max(took) < max(usual) + 1
            assert not any(summaries(session) for session, _ in away)
            proxy.heal()
            assert sweeps(worker) == 0
            send(store, "convo.tasks.sweep")
            wait_until(lambda: sweeps(worker), seconds=60)
            assert all(summaries(session) == 1 for session, _ in away)
            assert (sweeps(worker), worker.alive) == (1, True)
            again, _ = converse(client)
            wait_until(lambda: summaries(again))


@pytest.mark.once
def test_without_workers_the_web_server_steps_in(
    serve: Serve, env: dict[str, str], upstream: Upstream, store: Valkey, alice_key: str
) -> None:
    upstream.release()
    server = serve(**{**env, "CELERY_BROKER_URL": f"{store.url}/1"})
    with client_of(server, alice_key) as client:
        session, _ = converse(client)
        wait_until(lambda: summaries(session))


# RabbitMQ in the place of Redis, and nobody there.


class Waiting(CeleryWorker):
    """A worker that has begun to look for its broker."""

    def _ready(self) -> bool:
        assert self.alive, self.log()
        return "Cannot connect to amqp://" in self.log()


def unreachable(env: dict[str, str]) -> dict[str, Any]:
    """The same environment, with a RabbitMQ that isn't there."""
    return {**env, "CELERY_BROKER_URL": f"amqp://guest:secret@127.0.0.1:{free_port()}//"}


@pytest.mark.once
def test_without_its_rabbitmq_the_web_server_serves_and_steps_in(
    serve: Serve, env: dict[str, str], upstream: Upstream, alice_key: str, tmp_path: Path
) -> None:
    upstream.release()
    there = unreachable(env)
    server, worker = serve(**there), Waiting(tmp_path / "worker.log", **there)
    try:
        with client_of(server, alice_key) as client:
            session, took = converse(client)
            assert max(took) < 5
            once(session)
            assert httpx2.get(f"{server.url}/readyz", trust_env=False, timeout=60).json()["status"] == "ok"
        wait_until(lambda: "broker accepts no hints" in server.log())
        assert worker.alive
    finally:
        worker.kill()
    assert "secret" not in server.log() + worker.log()


# No broker: the worker inside the web server.


@pytest.mark.once
def test_a_server_alone_summarises(
    serve: Serve, env: dict[str, str], upstream: Upstream, alice_key: str
) -> None:
    upstream.release()
    with client_of(serve(**{**env, "CONVO_SWEEP_SECONDS": NEVER}), alice_key) as client:
        session, _ = converse(client)
        once(session)


@pytest.mark.once
@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_server_that_ends_in_the_middle_leaves_one_summary(
    serve: Serve, env: dict[str, str], upstream: Upstream, alice_key: str, end: str
) -> None:
    """F4, F9: and it is gone in seconds."""
    server = serve(**env)
    with client_of(server, alice_key) as client:
        session, _ = converse(client)
    wait_until(lambda: asked(upstream) == 1)
    began = time.monotonic()
    if end == "killed":
        server.kill()
    else:
        server.stop()
        assert time.monotonic() - began < 10
        assert Work.objects.items().due().exists()
    serve(**env)
    wait_until(lambda: asked(upstream) == 2)
    upstream.release()
    once(session)
