"""Databases that are full, read-only, or cut off."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from tests.servers import Server


def cut_connections() -> int:
    """End all connections to this database but our own; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


@contextmanager
def read_only() -> Iterator[None]:
    """The database takes no writes from anybody but this test."""
    name = connection.settings_dict["NAME"]

    def switch(state: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {state}')
        cut_connections()

    switch("on")
    try:
        yield
    finally:
        switch("off")


@contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """No file of this server's grows any more, as on a disk that is full."""
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
