"""Helpers for the database: its clock, retries, descriptions of failures, and threads for async code."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from functools import lru_cache, partial, wraps
from typing import ParamSpec, TypeVar

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import DateTimeField, ExpressionWrapper, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

P = ParamSpec("P")
T = TypeVar("T")

# Fewer threads than the PostgreSQL pool has connections, so that detached work can't starve requests.
_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="convo-database")
_heartbeat_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="convo-heartbeat")


@lru_cache
def seconds_from_now(seconds: float) -> Combinable:
    """Return the time in this many seconds by the database's clock, the only one that processes share."""
    return ExpressionWrapper(Now() + Value(timedelta(seconds=seconds)), output_field=DateTimeField())


def close_connections() -> None:
    """Close this thread's connections, so that none is held while a model thinks."""
    for open_connection in connections.all(initialized_only=True):
        if not open_connection.in_atomic_block:
            open_connection.close()


def in_batches(rows: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
    """Split the rows into batches that are small enough for one statement of any database."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def retry_conflicts(function: Callable[P, T]) -> Callable[P, T]:
    """Retry a transaction, at most twice, that the database gave up because of another transaction."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        for delay in (0.05, 0.2):
            try:
                return function(*args, **kwargs)
            except OperationalError as error:
                # Inside another transaction, only the outer one can be retried.
                if connection.in_atomic_block or not _is_transaction_conflict(error):
                    raise
                time.sleep(delay * random.uniform(0.5, 1.5))
        return function(*args, **kwargs)

    return call


def _is_transaction_conflict(error: OperationalError) -> bool:
    """Return whether PostgreSQL reports a serialization failure or a deadlock."""
    return getattr(error.__cause__, "sqlstate", None) in {"40001", "40P01"}


# Messages of these SQLSTATE classes are about the server, a lock or a constraint. Those of others, such as 22
# (data) and 42 (syntax), may quote a value.
_SAFE_CLASSES = {"08", "23", "25", "28", "40", "53", "54", "55", "57", "58", "XX"}


_WRITE_FAILURES = {
    "25006": "read-only",
    "53100": "full",
    # Hosted databases report an exceeded quota in this way.
    "53400": "full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_FULL: "full",
}


def describe_failure(error: Exception) -> str:
    """Describe a database failure for the log: with the driver's message, unless it may quote user data."""
    name, cause = type(error).__name__, error.__cause__
    if not isinstance(error, DatabaseError) or cause is None:
        return name
    message = str(cause).partition("\n")[0].strip()
    if code := _sqlite_code(error):
        # Only the messages of SQLITE_ERROR quote SQL and search terms.
        is_safe = code != sqlite3.SQLITE_ERROR
    else:
        # PostgreSQL quotes values only after the first line. Without a SQLSTATE it was not reached.
        sqlstate = getattr(cause, "sqlstate", None)
        is_safe = isinstance(error, OperationalError) if sqlstate is None else sqlstate[:2] in _SAFE_CLASSES
    return f"{name}: {message}" if is_safe and message else name


def _sqlite_code(error: Exception) -> int:
    """Return SQLite's primary result code, or 0 if SQLite is not the cause."""
    return int(getattr(error.__cause__, "sqlite_errorcode", 0)) & 0xFF


def is_sqlite_busy(error: DatabaseError) -> bool:
    """Return whether SQLite refused a write only because another one was in progress."""
    return _sqlite_code(error) == sqlite3.SQLITE_BUSY


def describe_write_failure(error: DatabaseError) -> str:
    """Describe a failed write publicly: without the driver's message, which may name hosts and users."""
    code = getattr(error.__cause__, "sqlstate", None) or _sqlite_code(error)
    return _WRITE_FAILURES.get(code, "takes no writes" if code else "unreachable")


def refuse_old_tables(alias: str = DEFAULT_DB_ALIAS) -> None:
    """Raise a CommandError if the tables are from before the first release, which renamed most of them."""
    if "convo_asked" in connections[alias].introspection.table_names():
        name = connections[alias].settings_dict["NAME"]
        raise CommandError(
            f"The database {name} is from before Convo's first release and can't be migrated: set "
            "DATABASE_URL to a new database, or, to look at the old one, check out the last commit that has "
            "convo/migrations/0001_initial.py."
        )


def count_unapplied_migrations() -> int:
    """Return the number of migrations that this database lacks."""
    return _count_unapplied(frozenset(MigrationRecorder(connection).applied_migrations()))


@lru_cache(maxsize=1)
def _count_unapplied(applied_migrations: frozenset[tuple[str, str]]) -> int:
    # Reading all migrations takes half a second, so it is repeated only when other ones are applied.
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


async def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a sync function that uses the ORM from async code, and close its connections afterwards."""
    return await _run_in(_threads, partial(function, *args, **kwargs))


async def run_on_heartbeat_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it on a dedicated thread, for work that must not wait behind others, such as heartbeats."""
    return await _run_in(_heartbeat_thread, partial(function, *args, **kwargs))


async def _run_in(threads: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    def call() -> T:
        try:
            return function()
        finally:
            close_connections()

    # Threads of a pool don't inherit context variables, by which the log knows the request.
    return await asyncio.get_running_loop().run_in_executor(threads, partial(copy_context().run, call))
