"""The pool of PostgreSQL connections, when they have all been cut while nobody used them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

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
