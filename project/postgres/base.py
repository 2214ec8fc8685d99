"""Django's PostgreSQL backend, for a database that fails over, goes away, or is slow.

The pool alone would keep requests waiting for ten seconds while the server is down, and would try to reach it
less and less often. Here a failed connection attempt opens `database_breaker` and closes the pool; a thread
tries once a second whether the database is back.
"""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

import psycopg
from django.db.backends.postgresql import base
from psycopg import OperationalError, generators
from psycopg.pq import ExecStatus
from psycopg.types.datetime import TimestamptzLoader
from psycopg_pool import PoolClosed

from convo import request_context
from convo.breaker import database_breaker as breaker

# After this many dead connections in a row, with the pool emptied after each, the server itself is at fault.
MAX_DEAD_CONNECTIONS = 4
# A database that answers no connection for this long counts as away.
ANSWER_SECONDS = 1.0
RETRY_SECONDS = 1.0
# A connection whose last answer is older is checked when it is taken: a firewall may have forgotten it.
REST_SECONDS = 1.0
# So is every connection, unless the server has answered some connection within this time. A server that
# freezes then leaves a busy process most of its pool, which is how the process notices.
ANSWERING_SECONDS = 0.02

_answered_at = 0.0
_failure_message = ""
_reconnect_lock = threading.Lock()
_reconnect_thread: threading.Thread | None = None


class TimeLoader(TimestamptzLoader):
    """Reads times as Django's own loader does, which takes eight times as long; a page has dozens of them."""

    # Django looks here whether its cursors need a loader for another time zone.
    timezone = UTC

    def load(self, data: Any) -> datetime:
        try:
            return datetime.fromisoformat(str(data, "ascii")).astimezone(UTC)
        except ValueError:
            # Another DateStyle, or a time that Python can't express.
            return super().load(data).astimezone(UTC)


class Connection(psycopg.Connection[Any]):
    """A connection that knows when it answered last, and tells the breaker whether it could be opened."""

    answered_at = 0.0
    # The statement that set the limit on the time of statements.
    time_limit: bytes | None = None

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        with _watch_connection_attempt(options):
            connection = super().connect(conninfo, **options)
        connection.adapters.register_loader("timestamptz", TimeLoader)
        return connection

    def wait(self, *args: Any, **options: Any) -> Any:
        """Wait for the server's answer: every statement does it here."""
        global _answered_at
        result = super().wait(*args, **options)
        self.answered_at = _answered_at = time.monotonic()
        return result

    def has_just_answered(self) -> bool:
        """Return whether it need not be checked, because it was in use a moment ago and is not cut."""
        now = time.monotonic()
        return (
            now - self.answered_at < REST_SECONDS
            and now - _answered_at < ANSWERING_SECONDS
            and not self._has_input()
        )

    def _has_input(self) -> bool:
        # Nothing arrives on an idle connection, except its end.
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))


class DatabaseWrapper(base.DatabaseWrapper):
    """Checks a pooled connection that has rested when it is taken, in place of `CONN_HEALTH_CHECKS`.

    The pool's own check waits between two dead connections, twice as long each time: with more than three
    idle ones, as after a failover, the first requests would fail although the server is back.
    """

    _connection_pools: ClassVar[dict[str, Any]]  # Django's own

    @property
    def pool(self) -> Any:
        if options := self.settings_dict["OPTIONS"].get("pool"):
            options.setdefault("connection_class", Connection)
        return super().pool

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection that has just answered, with the right limit on the time of statements."""
        for _ in range(MAX_DEAD_CONNECTIONS):
            connection = self._take_connection(conn_params)
            if not self.pool or self._is_ready(connection, conn_params):
                return connection
            pool = connection._pool
            pool.putconn(connection)
            # The other connections of the pool were most likely cut together with this one.
            pool.drain()
        raise OperationalError("the database closes every connection")

    def _take_connection(self, conn_params: dict[str, Any]) -> Any:
        if breaker.is_open:
            _start_reconnecting(conn_params)
            raise OperationalError(_failure_message)
        try:
            return super().get_new_connection(conn_params)
        except PoolClosed:
            # The database went away while this thread waited for a connection.
            raise OperationalError(_failure_message) from None

    def _is_ready(self, connection: Connection, conn_params: dict[str, Any]) -> bool:
        time_limit = self._time_limit()
        if connection.time_limit == time_limit:
            return connection.has_just_answered() or _is_alive(connection, b"", conn_params)
        if not _is_alive(connection, time_limit, conn_params):
            return False
        connection.time_limit = time_limit
        return True

    def _time_limit(self) -> bytes:
        """Return the statement that limits how long a request's statements may take.

        Migrations, sweeps and other background work may take as long as the role allows.
        """
        seconds = self.settings_dict.get("STATEMENT_SECONDS")
        if not seconds:
            return b""
        if request_context.current() is None:
            return b"RESET statement_timeout"
        return b"SET statement_timeout = %d" % (seconds * 1000)


def _is_alive(connection: Connection, statement: bytes, conn_params: dict[str, Any]) -> bool:
    started_at = time.monotonic()
    try:
        connection.pgconn.send_query(statement)
        results = connection.wait(generators.execute(connection.pgconn), timeout=ANSWER_SECONDS)
    except psycopg.Error:
        if time.monotonic() - started_at >= ANSWER_SECONDS:
            _mark_down_unless_answered_since(started_at, conn_params)
        return False
    _mark_up()
    return results[-1].status in {ExecStatus.EMPTY_QUERY, ExecStatus.COMMAND_OK}


@contextmanager
def _watch_connection_attempt(conn_params: dict[str, Any]) -> Iterator[None]:
    """Tell the breaker whether this attempt to connect fails, or takes too long."""
    timer = threading.Timer(ANSWER_SECONDS, _mark_down_unless_answered_since, (time.monotonic(), conn_params))
    timer.daemon = True
    timer.start()
    try:
        yield
    except OperationalError as error:
        if _is_refusal(error):
            _mark_up()
        elif not isinstance(error, psycopg.errors.ConnectionTimeout):
            _mark_down(str(error).partition("\n")[0], conn_params)
        raise
    finally:
        timer.cancel()
    _mark_up()


def _is_refusal(error: OperationalError) -> bool:
    """Return whether the server itself refused, because it is full or knows no such user: then it is up."""
    message = str(error)
    return "FATAL" in message and "the database system is" not in message


def _mark_up() -> None:
    global _answered_at
    _answered_at = time.monotonic()
    breaker.record_success()


def _mark_down_unless_answered_since(started_at: float, conn_params: dict[str, Any]) -> None:
    """Treat the database as away, unless it answered another connection meanwhile: then it is only busy."""
    if _answered_at < started_at:
        _mark_down(f"no answer within {ANSWER_SECONDS:.0f} s", conn_params)


def _mark_down(reason: str, conn_params: dict[str, Any]) -> None:
    global _failure_message
    _failure_message = f"the database is unreachable: {reason}"
    breaker.record_failure()
    _start_reconnecting(conn_params)


def _start_reconnecting(conn_params: dict[str, Any]) -> None:
    """Start the thread that looks for the database, unless it runs; a forked process has lost it."""
    global _reconnect_thread
    with _reconnect_lock:
        if _reconnect_thread is None or not _reconnect_thread.is_alive():
            _reconnect_thread = threading.Thread(
                target=_reconnect, args=(conn_params,), name="convo-database-search", daemon=True
            )
            _reconnect_thread.start()


def _reconnect(conn_params: dict[str, Any]) -> None:
    pools = DatabaseWrapper._connection_pools
    while breaker.is_open:
        # Threads that wait for a connection of this pool fail at once, and the next pool starts afresh.
        while pools:
            pools.popitem()[1].close(timeout=0.05)
        time.sleep(RETRY_SECONDS)
        with suppress(psycopg.Error):
            Connection.connect(**conn_params).close()
