"""Work beside the test, in a thread of its own."""

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    """Do this beside the test, as another request would."""

    def call() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def waits_for_a_lock() -> bool:
    """Whether somebody waits for a lock of this test's PostgreSQL database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])
