"""Emptying all tables after a test, while servers that go on for the next one are connected to them."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.management.base import CommandError
from django.db import connection

from tests.faults import wait_until

# How long a query of a server may take when a test is over. Whoever asked for it has left.
QUIET_SECONDS = 10.0
TRIES = 5
# pyproject.toml shows warnings that begin so; all others fail the test.
WARNING = "Emptying all tables"
DEADLOCK = "40P01"
# Our own connection is not counted.
OTHERS_AT_WORK = (
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend' AND state <> 'idle'"
)


def emptying(empty: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make Django's emptying of all tables wait for other connections, and try again after a deadlock."""
    tried = tried_again(empty)

    @wraps(empty)
    def call(case: Any) -> None:
        await_quiet()
        tried(case)

    return call


def await_quiet(seconds: float = QUIET_SECONDS) -> None:
    """Wait until no other connection is in a transaction; end those that are in one for longer than this.

    SQLite needs none of this: readers block nobody there, and a writer is waited for.
    """
    if connection.vendor != "postgresql":
        return
    try:
        wait_until(lambda: not queries_in_flight(), seconds=seconds)
    except AssertionError:
        warnings.warn(f"{WARNING}: ended {', '.join(queries_in_flight())}", stacklevel=2)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_terminate_backend(pid) {OTHERS_AT_WORK}")
        wait_until(lambda: not queries_in_flight())


def queries_in_flight() -> list[str]:
    """What other connections are doing in PostgreSQL, idle ones aside."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT state || ': ' || left(query, 200) {OTHERS_AT_WORK}")
        return [what for (what,) in cursor.fetchall()]


def tried_again(empty: Callable[[Any], None]) -> Callable[[Any], None]:
    """Try again, and say so, when the database gave the emptying up for another connection's sake."""

    @wraps(empty)
    def call(case: Any) -> None:
        for _ in range(TRIES - 1):
            try:
                return empty(case)
            except CommandError as error:
                if not _is_deadlock(error):
                    raise
                warnings.warn(f"{WARNING}: a deadlock, so once more. {error.__cause__}", stacklevel=2)
        return empty(case)

    return call


def _is_deadlock(error: BaseException) -> bool:
    """Was it a deadlock? `flush` raises an error of its own from Django's, and Django from PostgreSQL's."""
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "sqlstate", None) != DEADLOCK:
        cause = cause.__cause__
    return cause is not None
