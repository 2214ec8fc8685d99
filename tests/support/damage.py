"""Databases that are full, read-only, or cut off."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from tests.faults import wait_until
from tests.servers import Server


def cut_connections() -> int:
    """End all connections to this database but our own; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        pids = [pid for (pid,) in cursor.fetchall()]
    end_backends(pids)
    return len(pids)


def end_backends(pids: list[int]) -> None:
    """End these processes of PostgreSQL, and wait until they have closed their connections."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(pg_terminate_backend(pid)) FROM unnest(%s::int[]) AS pid", [pids])

        def have_ended() -> bool:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s::int[])", [pids])
            return not cursor.fetchone()[0]

        wait_until(have_ended)


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
