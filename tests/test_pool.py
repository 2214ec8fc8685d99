"""The pool of PostgreSQL connections, when they have all been cut while nobody used them."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import register_tzloader

from convo import request_context
from convo.breaker import database_breaker
from project.postgres.base import ANSWER_SECONDS, ANSWERING_SECONDS
from tests.faults import wait_until
from tests.support.damage import end_backends

HELD = 12


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_pool_full_of_dead_connections_serves_everybody_at_once() -> None:
    """F28: the pool's own check would wait a second for the second dead one, two for the third, and so on."""
    connection.ensure_connection()  # this thread's own is none of those that die
    together = threading.Barrier(HELD)

    def ask(wait: bool) -> int:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                if wait:
                    together.wait(20)
                return int(cursor.fetchone()[0])
        finally:
            connection.close()

    with ThreadPoolExecutor(HELD) as threads:
        before = set(threads.map(ask, [True] * HELD))
        assert len(before) == HELD
        end_backends(list(before))
        # The server has just answered this thread, so the threads check a connection only if it is cut.
        began = time.monotonic()
        after = set(threads.map(ask, [False] * HELD))
        assert time.monotonic() - began < 5
    assert after
    assert not after & before


def last_statement(seconds: float) -> str:
    """Take a connection of the pool after this rest; return the last statement that the server got on it."""
    connection.close()
    time.sleep(seconds)
    connection.ensure_connection()
    taken: Any = connection.connection
    with psycopg.connect(taken.info.dsn, password=taken.info.password) as observer:
        query = "SELECT query FROM pg_stat_activity WHERE pid = %s"
        row = observer.execute(query, [taken.info.backend_pid]).fetchone()
    return str(row and row[0])


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_only_a_connection_that_has_rested_is_checked() -> None:
    """A check is one round trip, and the limit on the time of statements another that is sent but once."""

    def use() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'used'")

    # After this, each connection of the pool has its limit.
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
    for _ in range(10):
        last_statement(0.01)
    for _ in range(3):
        use()
        assert last_statement(2 * ANSWERING_SECONDS) == ""

    def is_unchecked() -> bool:
        use()
        return last_statement(0) == "SELECT 'used'"

    # On a busy machine, more time than that may pass by itself.
    wait_until(is_unchecked)


def limit() -> str:
    """The statement timeout of a connection that is taken now."""
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return str(cursor.fetchone()[0])


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_only_what_a_request_asks_has_a_time_limit() -> None:
    """Review 15: migrations, reindexing and sweeps may take as long as they need, on the same pool."""
    as_request = Context()
    as_request.run(request_context.start_request)
    for _ in range(3):
        assert as_request.run(limit) == "30s"
        assert Context().run(limit) == "0"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_full_pool_is_waited_for_and_is_not_taken_for_a_lost_database() -> None:
    """Review 14: the breaker opens when nobody answers, never because all connections are in use."""
    size = int(connection.settings_dict["OPTIONS"]["pool"]["max_size"])
    connection.close()
    # A fresh one: threads of earlier tests may have ended with a connection in their hands.
    connection.close_pool()  # type: ignore[attr-defined]
    taken, go_on = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        try:
            connection.ensure_connection()
            taken.release()
            go_on.wait(60)
        finally:
            connection.close()

    def wait_in_line() -> bool:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return True
        finally:
            connection.close()

    with ThreadPoolExecutor(size + 1) as threads:
        holders = [threads.submit(hold) for _ in range(size)]
        for _ in holders:
            if not taken.acquire(timeout=30):
                go_on.set()
                pytest.fail(f"{[holder.exception(1) for holder in holders if holder.done()]}")
        waiting = threads.submit(wait_in_line)
        time.sleep(2 * ANSWER_SECONDS)
        assert not waiting.done()
        assert not database_breaker.is_open
        go_on.set()
        assert waiting.result(20)
        for holder in holders:
            holder.result(20)


def read_time(text: str, *, by_django: bool) -> datetime | str:
    """The time that this text is to PostgreSQL, as read from it, or the name of the error."""
    with psycopg.ClientCursor(connection.connection) as cursor:
        if by_django:
            register_tzloader(UTC, cursor)
        try:
            row: Any = cursor.execute("SELECT %s::timestamptz", [text]).fetchone()
        except (psycopg.Error, NotImplementedError) as error:
            return type(error).__name__
    return datetime.fromisoformat(row[0].isoformat())


@pytest.mark.postgres
@pytest.mark.django_db
@pytest.mark.parametrize("style", ["ISO, MDY", "ISO, DMY", "German", "SQL, DMY", "Postgres"])
def test_times_are_read_as_djangos_own_loader_reads_them(style: str) -> None:
    choose = random.Random(4)
    seconds = [choose.uniform(-6e10, 2.5e11) for _ in range(40)]
    texts = [datetime.fromtimestamp(each, UTC).isoformat() for each in seconds]
    texts += [
        "2026-12-01 10:00:00+05:45",
        "2026-12-01 10:00:00.1Z",
        "0044-03-15 BC",
        "infinity",
        "12000-01-01",
    ]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL DateStyle = %s", [style])
    read = [read_time(text, by_django=False) for text in texts]
    assert read == [read_time(text, by_django=True) for text in texts]
    assert isinstance(read[0], datetime) == style.startswith("ISO")
