"""The pool of PostgreSQL connections, when they have all been cut while nobody used them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

import pytest
from django.db import connection

from convo import request_context
from convo.breaker import database_breaker
from project.postgres.base import ANSWER_SECONDS

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
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(pg_terminate_backend(pid)) FROM unnest(%s) AS pid", [list(before)])
        began = time.monotonic()
        after = set(threads.map(ask, [False] * HELD))
        assert time.monotonic() - began < 5
    assert after
    assert not after & before


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
