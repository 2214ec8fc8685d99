"""The SQL statements that a piece of code sends, on all threads; tests/test_statements.py limits them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

Execute = Callable[[str, Any, bool, dict[str, Any]], Any]
TRANSACTION_WORDS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@contextmanager
def recorded_statements() -> Iterator[list[str]]:
    """Record the statements that this process sends, without those that only delimit transactions."""
    statements: list[str] = []
    watched: list[BaseDatabaseWrapper] = []

    def record(execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if not sql.startswith(TRANSACTION_WORDS):
            statements.append(sql)
        return execute(sql, params, many, context)

    def watch(connection: BaseDatabaseWrapper, **_: object) -> None:
        if record not in connection.execute_wrappers:
            connection.execute_wrappers.append(record)
            watched.append(connection)

    # Other threads open their connections when they need them, so each is watched from its first statement.
    connection_created.connect(watch)
    for connection in connections.all():
        watch(connection)
    try:
        yield statements
    finally:
        connection_created.disconnect(watch)
        for connection in watched:
            connection.execute_wrappers.remove(record)
