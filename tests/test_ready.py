"""/readyz: 503 for what a process can't serve without, 200 and `degraded` for the rest (review 14)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.db import DatabaseError, connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import F

from convo import database
from convo.models import Work
from tests.conftest import Serve
from tests.faults import NEVER, too_large_for_sqlite, wait_until
from tests.servers import Server, client_of
from tests.support.damage import cut_connections, full_disk, read_only

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(serve: Serve) -> Server:
    """A server whose first sweep, which is its last, has found nothing to do."""
    server = serve(CONVO_SWEEP_SECONDS=NEVER)
    wait_until(lambda: Work.objects.filter(kind=Work.SWEEP, lease_until=None).exists())
    return server


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with client_of(server) as client:
        yield client


def answers(client: httpx2.Client, status: int, state: str, *reasons: str) -> Callable[[], bool]:
    """Does it say this, for these reasons and no others?"""

    def check() -> bool:
        ready = client.get("/readyz")
        told: dict[str, Any] = ready.json()
        found = [reason in line for reason, line in zip(reasons, told["reasons"], strict=False)]
        return (ready.status_code, told["status"]) == (status, state) and (
            len(told["reasons"]) == len(reasons) and all(found)
        )

    return check


@contextmanager
def full() -> Iterator[None]:
    """PostgreSQL may take no new space, by a quota of its own."""
    name = connection.settings_dict["NAME"]

    def limit(size: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{name}" SET temp_file_limit = {size}')
        cut_connections()

    limit("0")
    try:
        yield
    finally:
        limit("DEFAULT")


@contextmanager
def missing_migration() -> Iterator[None]:
    rows = MigrationRecorder(connection).migration_qs.filter(app="convo")
    newest = rows.order_by("-name")[0]
    assert rows.filter(pk=newest.pk).update(app="hidden") == 1
    try:
        yield
    finally:
        MigrationRecorder(connection).migration_qs.filter(app="hidden").update(app="convo")


def test_a_process_that_cannot_serve_is_not_ready_and_says_why(server: Server, client: httpx2.Client) -> None:
    wait_until(answers(client, 200, "ok"))
    if connection.vendor == "sqlite":
        with full_disk(server):
            wait_until(answers(client, 503, "unavailable", "database: takes no writes"))
    else:
        with read_only():
            wait_until(answers(client, 503, "unavailable", "database: read-only"))
        with full():
            wait_until(answers(client, 503, "unavailable", "database: full"))
        assert "temporary file size exceeds" in server.log()
    with missing_migration():
        wait_until(answers(client, 503, "unavailable", "database: 1 unapplied migrations"))
    wait_until(answers(client, 200, "ok"))


def test_a_process_whose_work_is_late_is_degraded_and_says_why(client: httpx2.Client) -> None:
    wait_until(answers(client, 200, "ok"))
    late = Work.objects.create(kind="learn", target="1", next_at=database.seconds_from_now(-300))
    wait_until(answers(client, 200, "degraded", "work: overdue by 3"))
    (reason,) = client.get("/readyz").json()["reasons"]
    assert reason.endswith(
        " s (1 learn): start more workers (docs/how-to/background-work.md), and see `manage.py backlog`"
    )
    Work.objects.filter(pk=late.pk).update(state=Work.State.DEAD)
    wait_until(answers(client, 200, "degraded", "work: 1 given up"))
    Work.objects.filter(pk=late.pk).delete()
    sweeps = Work.objects.filter(kind=Work.SWEEP)
    assert sweeps.update(next_at=F("next_at") - timedelta(days=5)) == 1
    wait_until(answers(client, 200, "degraded", "work: no sweep has caught up lately"))
    sweeps.update(next_at=database.seconds_from_now(0))
    wait_until(answers(client, 200, "ok"))


@pytest.mark.sqlite
def test_a_long_write_on_sqlite_is_no_reason_against_it(server: Server, client: httpx2.Client) -> None:
    with transaction.atomic():
        Work.objects.update(kind=F("kind"))
        # The first look of this server: nothing is remembered.
        assert answers(client, 200, "ok")()


@contextmanager
def pragma(name: str, value: int) -> Iterator[None]:
    """Set one of SQLite's own limits for a while."""

    def put(value: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA {name} = {value}")

    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {name}")
        (before,) = cursor.fetchone()
    put(value)
    try:
        yield
    finally:
        put(before)


@pytest.mark.sqlite
def test_sqlite_says_itself_that_it_is_full_or_read_only() -> None:
    large = too_large_for_sqlite()

    def failure() -> str:
        with pytest.raises(DatabaseError) as raised, transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE large AS SELECT zeroblob({large}) AS it")
        return database.describe_write_failure(raised.value)

    with pragma("query_only", 1):
        assert failure() == "read-only"
    with pragma("max_page_count", 1):
        assert failure() == "full"
