"""The log: when, for which request and key, and why; never what people wrote (review 15)."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from django.db import DatabaseError, connection, transaction

from convo import database, request_context
from convo.models import ApiKey, Turn
from tests.conftest import Serve
from tests.faults import QUICK, asking, new_session, too_large_for_sqlite, wait_until
from tests.servers import client_of
from tests.upstream import Upstream

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+( \[\S+( key=\w+)?\])?: .*")
HEADER = "X-Request-ID"


def why(sql: str) -> str:
    """The reason that is logged when this statement fails."""
    with pytest.raises(DatabaseError) as raised, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
    return database.describe_failure(raised.value)


@contextmanager
def no_more_pages() -> Iterator[None]:
    """SQLite may not grow its file, and says the same as on a full disk."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA max_page_count")
        (before,) = cursor.fetchone()
        cursor.execute("PRAGMA max_page_count = 1")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA max_page_count = {before}")


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_the_log_says_that_the_disk_is_full() -> None:
    large = too_large_for_sqlite()
    with no_more_pages():
        assert why(f"CREATE TABLE large AS SELECT zeroblob({large}) AS it") == (
            "OperationalError: database or disk is full"
        )


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_the_log_says_why_postgresql_failed() -> None:
    assert why("SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)") == (
        "OperationalError: canceling statement due to statement timeout"
    )
    assert why("SET TRANSACTION READ ONLY; DELETE FROM convo_turn") == (
        "InternalError: cannot execute DELETE in a read-only transaction"
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'my secret' FROM nowhere WHERE ''secret''",
        "SELECT secret FROM convo_turn",
        "SELECT CAST('my secret' AS integer) FROM convo_turn, secret",
    ],
)
def test_the_log_says_nothing_that_people_wrote(sql: str) -> None:
    assert "secret" not in why(sql)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_values_that_postgresql_quotes_stay_out_of_the_log() -> None:
    assert why("SELECT CAST('my secret' AS integer)") == "DataError"
    ApiKey.objects.all().delete()
    why_not_unique = why("INSERT INTO django_content_type VALUES (1, 'secret', 'x'), (1, 'secret', 'x')")
    assert "secret" not in why_not_unique
    assert "unique constraint" in why_not_unique


@pytest.mark.both_handlers
@pytest.mark.once
@pytest.mark.parametrize("debug", ["0", "1"])
@pytest.mark.django_db(transaction=True)
def test_a_refused_request_is_logged_once_with_time_id_and_key(
    serve: Serve, alice_key: str, debug: str
) -> None:
    """Review 15: with DEBUG=1 each refusal was logged twice, by Django's own handler and by ours."""
    server = serve(DEBUG=debug)
    prefix = ApiKey.objects.get().prefix
    with client_of(server, alice_key) as client:
        for number, (path, status) in enumerate(
            [("/api/v1/sessions/?limit=x&nonsense=1", 400), ("/v1/conversations/x", 404), ("/api/none/", 404)]
        ):
            id = f"mine-{number}"
            answer = client.get(path, headers={HEADER: id})
            assert answer.headers[HEADER] == id
            assert answer.status_code == status, answer.text
            (line,) = [line for line in server.log().splitlines() if f"[{id}" in line]
            assert path.partition("?")[0] in line
            assert server.log().count(path.partition("?")[0]) == 1
            # No key is looked at where there is nothing.
            assert (f" [{id} key={prefix}]" in line) == (path != "/api/none/")
    strange = [line for line in server.log().splitlines() if not LINE.fullmatch(line)]
    assert strange == []


@pytest.mark.both_handlers
@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_every_answer_names_its_request(share: Serve, alice_key: str) -> None:
    server = share()

    def id_of(answer: httpx2.Response) -> str:
        return str(answer.headers[HEADER])

    with client_of(server, alice_key) as client:
        for path in ("/healthz", "/", "/api/v1/sessions/", "/v1/models", "/v1/nothing", "/api/nothing/"):
            assert re.fullmatch(r"req_[0-9a-f]{32}", id_of(client.get(path)))
            assert id_of(client.get(path)) != id_of(client.get(path))
            assert id_of(client.get(path, headers={HEADER: "a-1.b:2/c=3+4_5"})) == "a-1.b:2/c=3+4_5"
            for bad in ("two words", "x" * 129, "", "] forged", "ünwell"):
                assert id_of(client.get(path, headers={HEADER.encode(): bad.encode("latin-1")})).startswith(
                    "req_"
                )
        too_large = client.post("/api/v1/sessions/", content=b"x" * 20_000_001, headers={HEADER: "mine"})
        assert (too_large.status_code, id_of(too_large)) == (413, "mine")


def test_threads_of_a_pool_know_the_request_that_they_work_for() -> None:
    async def ids() -> tuple[str, str]:
        return request_context.start_request(), await database.run(request_context.request_id)

    mine, theirs = asyncio.run(ids())
    assert mine == theirs


@contextmanager
def hidden_messages() -> Iterator[None]:
    """Nothing can be read from the transcript, or written to it."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE convo_message RENAME TO convo_hidden")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE convo_hidden RENAME TO convo_message")


@pytest.mark.both_handlers
@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_what_a_turn_logs_names_the_request_that_asked(
    serve: Serve, alice_key: str, upstream: Upstream
) -> None:
    """Its work goes on in another task."""
    server = serve(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold", **QUICK)
    with client_of(server, alice_key) as client:
        session = new_session(client)
        client.headers[HEADER] = "asked-1"
        with asking(client, session) as arriving:
            wait_until(lambda: Turn.objects.filter(draft="first second ").exists())
            with hidden_messages():
                upstream.release()
                wait_until(lambda: "a turn is not written yet" in server.log())
            assert list(arriving)[-1][0] == "turn.completed"
    lines = [line for line in server.log().splitlines() if "a turn is not written yet" in line]
    assert all(f" [asked-1 key={ApiKey.objects.get().prefix}]: " in line for line in lines)
