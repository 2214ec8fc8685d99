"""Review 24: the tables are emptied between tests whatever a server that stays for the next test is doing."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from convo.models import Session, Turn, Work
from tests.conftest import Serve
from tests.emptying import (
    WARNING,
    all_tables,
    await_quiet,
    delete_all_rows,
    filled_tables,
    queries_in_flight,
    tried_again,
)
from tests.faults import wait_until
from tests.servers import WORKS, Standing, client_of

pytestmark = pytest.mark.django_db(transaction=True)

LOCKS_HELD = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted"


@contextmanager
def slow_inserts(seconds: float) -> Iterator[None]:
    """Every new session takes so long, in the database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$"
        )
        cursor.execute("CREATE TRIGGER slow BEFORE INSERT ON convo_session EXECUTE FUNCTION wait()")
        try:
            yield
        finally:
            cursor.execute("DROP TRIGGER slow ON convo_session")
            cursor.execute("DROP FUNCTION wait()")


@pytest.mark.postgres
@pytest.mark.parametrize(("query_seconds", "patience"), [(2, 30), (600, 1)])
def test_a_query_of_a_server_is_waited_for_and_one_that_lasts_is_ended(
    share: Serve, alice_key: str, query_seconds: int, patience: int, recwarn: pytest.WarningsRecorder
) -> None:
    with client_of(share(), alice_key) as client, ThreadPoolExecutor() as pool:
        assert client.post("/api/v1/sessions/", json={}).status_code == 201
        with slow_inserts(query_seconds):
            asked = pool.submit(client.post, "/api/v1/sessions/", json={})
            wait_until(queries_in_flight)
            await_quiet(patience)
            assert queries_in_flight() == []
            warned = [str(one.message) for one in recwarn if str(one.message).startswith(WARNING)]
            assert len(warned) == (1 if query_seconds > patience else 0)
            assert all("convo_session" in one for one in warned)
            assert (asked.result().status_code == 201) == (query_seconds < patience)
        # The server that lost a connection has others, and goes on.
        assert client.post("/api/v1/sessions/", json={}).status_code == 201
        delete_all_rows()
        assert not Session.objects.exists()


@contextmanager
def deadlock(times: int) -> Iterator[Callable[[], int]]:
    """Another connection that meets the emptying halfway, so often; answers how often it did."""
    first, *others = all_tables()
    met = 0

    def hold(ready: threading.Event) -> None:
        nonlocal met
        with closing(connections.create_connection("default")) as other, other.cursor() as cursor:
            # The emptying is to be the one that PostgreSQL gives up.
            cursor.execute("SET deadlock_timeout = '60s'")
            for _ in range(times):
                cursor.execute("BEGIN")
                cursor.execute(f"LOCK TABLE {', '.join(others)} IN SHARE MODE")
                ready.set()
                wait_until(lambda: _waits(cursor))
                met += 1
                cursor.execute(f"LOCK TABLE {first} IN SHARE MODE")
                cursor.execute("ROLLBACK")

    ready = threading.Event()
    with ThreadPoolExecutor() as pool:
        held = pool.submit(hold, ready)
        assert ready.wait(30)
        yield lambda: met
        held.result()


def _waits(cursor: Any) -> bool:
    cursor.execute(LOCKS_HELD)
    return bool(cursor.fetchone()[0])


@pytest.mark.postgres
def test_emptying_that_meets_a_deadlock_is_tried_again_and_says_so(alice_key: str) -> None:
    with deadlock(1), pytest.raises(OperationalError, match="deadlock"):
        delete_all_rows()
    with deadlock(1) as met, pytest.warns(UserWarning, match=f"{WARNING}: a deadlock"):
        tried_again(delete_all_rows)
    assert met() == 1
    assert filled_tables() == []


def test_what_is_no_deadlock_is_not_tried_again() -> None:
    tries = []

    def fail() -> None:
        tries.append(1)
        raise OperationalError("no table can be emptied")

    with pytest.raises(OperationalError):
        tried_again(fail)
    assert tries == [1]


def test_a_server_that_stays_for_the_next_test_does_no_background_work(
    share: Serve, standing: Standing, alice_key: str, tmp_path: Path
) -> None:
    idle, working = share(), share(**WORKS)
    standing.end_working()
    assert working.process.poll() is not None
    with client_of(idle, alice_key) as client:
        assert client.post("/api/v1/query/", json={"message": "I live in Oslo."}).status_code == 200
    turn = Turn.objects.get()
    assert (turn.indexed_at, turn.learned_at) == (None, None)
    assert idle.process.poll() is None
    assert not Work.objects.exclude(kind=Work.SWEEP).exists()
    # The positive control: one that sweeps finds all of this to do.
    share(**WORKS)
    wait_until(lambda: Turn.objects.get().indexed_at)
