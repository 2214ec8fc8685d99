"""The SQL statements that a piece of code sends, on all threads; tests/test_statements.py limits them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

Execute = Callable[[str, Any, bool, dict[str, Any]], Any]
ExecuteWrapper = Callable[[Execute, str, Any, bool, dict[str, Any]], Any]
TRANSACTION_WORDS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@contextmanager
def recorded_statements() -> Iterator[list[str]]:
    """Record the statements that this process sends, without those that only delimit transactions."""
    statements: list[str] = []

    def record(execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if not sql.startswith(TRANSACTION_WORDS):
            statements.append(sql)
        return execute(sql, params, many, context)

    with wrapped_execution(record):
        yield statements


@contextmanager
def wrapped_execution(wrapper: ExecuteWrapper) -> Iterator[None]:
    """Send the statements of all threads through a wrapper."""
    watched: list[BaseDatabaseWrapper] = []

    def watch(connection: BaseDatabaseWrapper, **_: object) -> None:
        if wrapper not in connection.execute_wrappers:
            connection.execute_wrappers.append(wrapper)
            watched.append(connection)

    # Other threads open their connections when they need them, so each is watched from its first statement.
    connection_created.connect(watch)
    for connection in connections.all():
        watch(connection)
    try:
        yield
    finally:
        connection_created.disconnect(watch)
        for connection in watched:
            connection.execute_wrappers.remove(wrapper)
