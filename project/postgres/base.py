"""Django's PostgreSQL backend with a pool that survives a failover at once, however full it is."""

from typing import Any

from django.db.backends.postgresql import base
from psycopg import OperationalError
from psycopg_pool import ConnectionPool

# Dead connections in a row, each with all others of the pool thrown away: then the server itself is ill.
TRIES = 3


class DatabaseWrapper(base.DatabaseWrapper):
    """Checks a pooled connection when it is taken, in place of `CONN_HEALTH_CHECKS`.

    The pool's own check waits between two dead connections, twice as long each time: with more than three of
    them idle, as after a failover, the first requests would fail although the server is back.
    """

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection that has just answered."""
        for _ in range(TRIES - 1):
            connection = super().get_new_connection(conn_params)
            if not self.pool or _answers(connection):
                return connection
            self.pool.putconn(connection)
            # Whatever cut this one has most likely cut the others too.
            self.pool.drain()
        return super().get_new_connection(conn_params)


def _answers(connection: Any) -> bool:
    try:
        ConnectionPool.check_connection(connection)
    except OperationalError:
        return False
    return True
