"""Emptying all tables after a test, while servers that go on for the next one are connected to them."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import OperationalError, connection, transaction

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
    """Empty all tables: on SQLite as Django does, on PostgreSQL in a tenth of the time.

    There it waits for other connections, and tries again after a deadlock.
    """

    @wraps(empty)
    def call(case: Any) -> None:
        if connection.vendor == "postgresql":
            await_quiet()
            tried_again(delete_all_rows)
        else:
            empty(case)

    return call


def delete_all_rows() -> None:
    """Delete the rows of the tables that have any; Django's TRUNCATE makes new files for all tables."""
    with transaction.atomic(), connection.cursor() as cursor:
        # Nobody adds a row meanwhile to what has been emptied, or was found empty.
        cursor.execute(f"LOCK TABLE {', '.join(all_tables())} IN SHARE ROW EXCLUSIVE MODE")
        # Foreign keys would ask for an order, and the superuser that the tests are may leave them out.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("; ".join(f"DELETE FROM {table}" for table in filled_tables()) or "SELECT 1")


def all_tables() -> list[str]:
    """The tables of all models, in the order in which they are locked."""
    return sorted(connection.introspection.django_table_names(include_views=False))


def filled_tables() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"(SELECT '{name}' FROM {name} LIMIT 1)" for name in all_tables()))
        return [name for (name,) in cursor.fetchall()]


def await_quiet(seconds: float = QUIET_SECONDS) -> None:
    """Wait until no other connection is in a transaction; end those that are in one for longer than this.

    SQLite needs none of this: readers block nobody there, and a writer is waited for.
    """
    try:
        wait_until(lambda: not queries_in_flight(), seconds=seconds)
    except AssertionError:
        warnings.warn(f"{WARNING}: ended {', '.join(queries_in_flight())}", stacklevel=2)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_terminate_backend(pid) {OTHERS_AT_WORK}")
        wait_until(lambda: not queries_in_flight())


def queries_in_flight() -> list[str]:
    """The states and statements of the other connections to PostgreSQL that are not idle."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT state || ': ' || left(query, 200) {OTHERS_AT_WORK}")
        return [what for (what,) in cursor.fetchall()]


def tried_again(empty: Callable[[], None]) -> None:
    """Empty the tables, and once more when the database gave that up for another connection's sake."""
    for _ in range(TRIES - 1):
        try:
            return empty()
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != DEADLOCK:
                raise
            warnings.warn(f"{WARNING}: a deadlock, so once more. {error}", stacklevel=2)
    return empty()
