"""F6, F60: work that freezes or kills its process harms no request, and it alone is counted (review 1)."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from celery import Celery

from convo.models import ME, Person, Session, Turn, Work
from tests.conftest import Serve
from tests.faults import NEVER, QUICK, ask, free_port, new_session, wait_until
from tests.servers import Server, client_of
from tests.support.hostile import UNITS
from tests.support.valkey import Valkey
from tests.worker import CeleryWorker

pytestmark = pytest.mark.django_db(transaction=True)

TASK_SECONDS = 3
ENV = {
    **QUICK,
    "DJANGO_SETTINGS_MODULE": "tests.freezing.settings",
    # With this, servers and their children are started as they are without the tests.
    "PYTHONUNBUFFERED": "1",
    "CONVO_TASK_SECONDS": str(TASK_SECONDS),
    "CONVO_WORK_ATTEMPTS": "2",
    "CONVO_WORK_RETRY_SECONDS": "0.5",
    "CONVO_WORK_LEASE_SECONDS": "2",
}
Make = Callable[[str], Session]


@pytest.fixture
def make(alice: Any) -> Make:
    """Makes a session with this title, which says what its background work does."""
    person = Person.objects.get_or_create_by_ref(alice, ME)
    return lambda title: Session.objects.create(owner=alice, person=person, agent="assistant", title=title)


def is_done(*sessions: Session) -> bool:
    return all(Session.objects.get(pk=session.pk).title == "done" for session in sessions)


@contextmanager
def answers(server: Server) -> Iterator[None]:
    """Holds that the server answers within a second, time after time, with slack for a busy machine."""
    took: list[float] = []
    over = threading.Event()

    def look() -> None:
        with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            while not over.wait(0.1):
                began = time.monotonic()
                assert client.get("/healthz").status_code == 200
                took.append(time.monotonic() - began)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    print(f"/healthz took {max(took):.2f} s at most, of {len(took)}")
    assert len(took) > 10
    assert max(took) < 5


def test_work_that_freezes_its_process_is_given_up_while_the_server_answers(
    serve: Serve, make: Make, alice_key: str
) -> None:
    poison = make("one freezes")
    server = serve(**ENV)
    with answers(server), client_of(server, alice_key) as client:
        session = new_session(client)
        harmless = [make("one"), make("many")]
        dead = wait_until(lambda: Work.objects.dead().first(), seconds=60)
        assert ask(client, session).status_code == 200
        wait_until(lambda: is_done(*harmless))
    assert (dead.kind, dead.target, dead.attempts) == ("one", str(poison.pk), 2)
    assert dead.error.startswith("time_over: ")
    # Where it stood is in the log, for whoever has to mend it.
    assert "hold_the_lock" in server.log()


def test_of_a_batch_only_what_freezes_or_fails_is_counted(serve: Serve, make: Make) -> None:
    sessions = [make("many") for _ in range(5)]
    bad = {
        str(make(title).pk): code
        for title, code in (("many freezes", "time_over"), ("many fails", "ValueError"))
    }
    sessions += [make("many") for _ in range(5)]
    server = serve(**ENV)
    with answers(server):
        wait_until(lambda: Work.objects.dead().count() == 2, seconds=90)
    assert is_done(*sessions)
    found = {work.target: work.error.partition(":")[0] for work in Work.objects.items()}
    assert found == bad
    assert [work.attempts for work in Work.objects.items()] == [2, 2]


def child_of(process: Any) -> Any:
    """The process in which this one has its background work done."""
    return wait_until(
        lambda: next(
            (
                child
                for child in psutil.Process(process.pid).children(recursive=True)
                if child.cmdline()[-1:] == ["work"]
            ),
            None,
        )
    )


def test_a_server_that_ends_takes_its_child_along_even_a_frozen_one(serve: Serve, make: Make) -> None:
    server = serve(**{**ENV, "CONVO_TASK_SECONDS": "100000"})
    child = child_of(server.process)
    wait_until(lambda: Work.objects.filter(kind=Work.SWEEP, lease_until=None).exists())
    server.kill()
    child.wait(30)
    make("one freezes")
    server = serve(**{**ENV, "CONVO_TASK_SECONDS": "100000"})
    child = child_of(server.process)
    wait_until(lambda: Work.objects.filter(kind="one").exists())
    server.stop()
    child.wait(30)
    assert Work.objects.due().filter(attempts=0).exists()


def test_a_child_that_is_killed_while_it_does_nothing_is_replaced(serve: Serve, make: Make) -> None:
    server = serve(**ENV)
    child_of(server.process).kill()
    session = make("one")
    wait_until(lambda: is_done(session))


@pytest.mark.once
def test_no_message_of_a_hostile_unit_silences_a_server_that_learns(serve: Serve, alice_key: str) -> None:
    """Review 1: one message of blank lines once did."""
    server = serve(CONVO_SWEEP_SECONDS="1")
    with client_of(server, alice_key) as client, answers(server):
        client.timeout = 120
        for unit in UNITS:
            text = unit * (200_000 // len(unit.encode())) + "x"
            path = f"/api/v1/sessions/{new_session(client)}/messages/"
            made = client.post(path, json={"messages": [{"role": "user", "content": text}]})
            assert made.status_code == 201, made.text[:1000]
        wait_until(lambda: not Turn.objects.filter(learned_at=None).exists(), seconds=120)
    wait_until(lambda: not Work.objects.items().exists())


# The same in a worker.


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Valkey]:
    valkey = Valkey(tmp_path / "valkey", free_port())
    valkey.start()
    yield valkey
    with suppress(ProcessLookupError):
        valkey.kill()


@pytest.mark.postgres
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_counts_only_what_froze_of_all_that_it_was_at(
    make: Make, store: Valkey, tmp_path: Path, pool: str
) -> None:
    env = {**ENV, "CELERY_BROKER_URL": f"{store.url}/1", "CONVO_SWEEP_SECONDS": NEVER}
    worker = CeleryWorker(tmp_path / "worker.log", pool=pool, beat=False, **env)
    try:
        poison, slow = make("one freezes"), make("one is slow")
        app = Celery(broker=f"{store.url}/1", set_as_current=False)
        with app.connection_for_write() as connection:
            for session in (slow, poison):
                kwargs = {"name": "one", "pk": str(session.pk)}
                app.send_task("convo.tasks.run", kwargs=kwargs, connection=connection)
        failed = wait_until(lambda: Work.objects.filter(error__startswith="time_over").first(), seconds=60)
        wait_until(lambda: is_done(slow))
        # Work leaves the ledger a moment after its effect is seen.
        wait_until(lambda: not Work.objects.filter(target=str(slow.pk)).exists())
        assert (failed.target, failed.attempts) == (str(poison.pk), 1)
        assert worker.alive
        assert [work.target for work in Work.objects.items()] == [str(poison.pk)]
    finally:
        worker.kill()
        print(worker.log())
