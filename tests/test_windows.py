"""Hot windows: a warm read asks the database for one row, and whatever Redis does, the answer is right."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries, Settings

from convo import history, search, turns
from convo.breaker import Breaker, BreakerOpen
from convo.history import NewMessage, TranscriptMessage, window
from convo.history.window import CONNECTION_ERRORS
from convo.models import ME, Person, Session
from tests.faults import wait_until
from tests.proxy import Fault, Proxy
from tests.support.windows import keep_windows_in
from tests.talk import delete_last

pytestmark = [pytest.mark.django_db, pytest.mark.once]

# All that a cache which is away may add to a row of reads, with five times the slack.
PATIENCE_SECONDS = 5 * 0.5
AGENTS = Path(__file__).with_name("agents.yaml")
ABOUT_CONNECTING = {"hello", "client", "info", "config", "select"}


@pytest.fixture
def session(alice: Any, settings: Settings) -> Session:
    """A session whose agent sees the transcript alone: no summary, no memory."""
    settings.CONVO = {**settings.CONVO, "AGENTS_FILE": str(AGENTS)}
    return Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, ME), agent="echo"
    )


@pytest.fixture
def hot(settings: Settings, valkey: str) -> Iterator[redis.Redis]:
    """The Redis that keeps the windows, empty."""
    keep_windows_in(settings, valkey)
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
        yield client


def say(session: Session, *texts: str) -> None:
    turns.record(session, [NewMessage(role="user", content=text) for text in texts])
    session.refresh_from_db()


def read(session: Session) -> list[TranscriptMessage]:
    return history.look_up_newest(session.pk, session.version)[0]


def said(session: Session) -> list[str]:
    return [line.content for line in read(session)]


def only_key(client: redis.Redis) -> str | bytes:
    """The key of the one window that there is."""
    (key,) = client.keys("*convo:window:*")
    return key


def commands(client: redis.Redis) -> dict[str, int]:
    """How often each command was given since CONFIG RESETSTAT, apart from those about connecting."""
    stats = {name.removeprefix("cmdstat_"): stat for name, stat in client.info("commandstats").items()}
    return {name: stat["calls"] for name, stat in stats.items() if name.split("|")[0] not in ABOUT_CONNECTING}


def test_a_warm_context_read_makes_one_query_and_one_get(
    session: Session, hot: redis.Redis, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    say(session, "one", "two")
    hot.config_resetstat()
    cold = turns.preview(session, "three")
    assert commands(hot) == {"get": 1, "set": 1}
    hot.config_resetstat()
    with django_assert_num_queries(1):
        warm = turns.preview(Session.objects.get(pk=session.pk), "three")
    assert commands(hot) == {"get": 1}
    assert [message["content"] for message in warm.messages][-3:] == ["one", "two", "three"]
    assert warm == cold


def test_memory_adds_the_same_few_queries_to_a_warm_read_however_long_the_past(
    session: Session, hot: redis.Redis
) -> None:
    Session.objects.filter(pk=session.pk).update(agent="remembers")
    asked = []
    for _ in range(2):
        say(session, *("The Danube flows through Vienna." for _ in range(100)))
        search.index_turns()
        turns.preview(Session.objects.get(pk=session.pk), "Where does the Danube flow?", max_tokens=900)
        with CaptureQueriesContext(connection) as queries:
            found = Session.objects.get(pk=session.pk)
            warm = turns.preview(found, "Where does the Danube flow?", max_tokens=900)
        asked.append(len(queries))
        assert "Danube flows" in str(warm.messages)
    assert asked[0] == asked[1] <= 10


def test_over_http_a_warm_read_asks_for_the_session_and_for_no_message(
    session: Session, hot: redis.Redis, client: Client, alice_key: str
) -> None:
    say(session, "one", "two")
    asked = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            found = client.get(
                f"/api/v1/sessions/{session.pk}/context/?query=three",
                headers={"Authorization": f"Bearer {alice_key}"},
            )
        assert found.status_code == 200, found.content
        asked.append([query["sql"] for query in queries])
    cold, warm = asked
    assert sum("convo_message" in sql for sql in cold) == 1
    assert not any("convo_message" in sql for sql in warm)
    assert sum("FROM convo_session" in sql for sql in warm) == 1


def test_the_time_of_a_window_that_is_read_slides(session: Session, hot: redis.Redis) -> None:
    say(session, "one")
    good = read(session)
    assert 1700 < hot.ttl(only_key(hot)) <= 1800
    kept = json.loads(hot.get(only_key(hot)))  # type: ignore[arg-type]
    # As if it had been kept twenty minutes ago.
    aged = {**kept, "stored_at": kept["stored_at"] - 1200}
    hot.set(only_key(hot), json.dumps(aged), ex=600)
    assert read(session) == good
    assert hot.ttl(only_key(hot)) > 1700
    # One that is young costs no second round trip.
    hot.config_resetstat()
    assert read(session) == good
    assert commands(hot) == {"get": 1}


def packed(session: Session, **changes: Any) -> bytes:
    """The session's window as it lies in Redis, with something in it changed."""
    kept = window._pack(read(session), window._version_name(session.pk, session.version))
    return json.dumps({**kept, **changes}).encode()


def of_another_session(session: Session) -> bytes:
    return packed(session, name=[window.SCHEMA, str(uuid4()), *session.version])


def of_another_epoch(session: Session) -> bytes:
    return packed(session, name=[window.SCHEMA, str(session.pk), session.epoch + 1, session.last_position])


def of_another_position(session: Session) -> bytes:
    return packed(session, name=[window.SCHEMA, str(session.pk), session.epoch, session.last_position - 1])


def of_another_schema(session: Session) -> bytes:
    return packed(session, name=[window.SCHEMA - 1, str(session.pk), *session.version])


def with_other_lines(session: Session) -> bytes:
    return packed(session).replace(b"the gate code", b"the late code")


def without_checksum(session: Session) -> bytes:
    kept = json.loads(packed(session))
    del kept["sum"]
    return json.dumps(kept).encode()


def cut_short(session: Session) -> bytes:
    return packed(session)[:-20]


def of_another_time(session: Session) -> bytes:
    return packed(session, stored_at="yesterday")


SPOILED: list[Callable[[Session], bytes]] = [
    of_another_session,
    of_another_epoch,
    of_another_position,
    of_another_schema,
    of_another_time,
    with_other_lines,
    without_checksum,
    cut_short,
    lambda session: b"not json",
    lambda session: b"\xff\xfe\x00binary",
    lambda session: b"\x80\x04\x95pickle",
    lambda session: b"7",
    lambda session: b'"text"',
    lambda session: b"[[1, 2]]",
    lambda session: b"",
]


@pytest.mark.parametrize("spoiled", SPOILED, ids=lambda made: made.__name__)
def test_a_spoiled_window_is_a_miss_and_is_deleted(
    session: Session, hot: redis.Redis, spoiled: Callable[[Session], bytes]
) -> None:
    """F16c"""
    say(session, "the gate code is 4711", "say it again")
    good, value = read(session), spoiled(session)
    key = only_key(hot)
    assert window.load(session.pk, session.version) == good
    hot.set(key, value, ex=600)
    assert window.load(session.pk, session.version) is None
    assert not hot.exists(key)
    assert read(session) == good
    assert window.load(session.pk, session.version) == good


def test_something_else_under_a_windows_key_is_a_miss_and_is_deleted(
    session: Session, hot: redis.Redis
) -> None:
    """F16c"""
    say(session, "one")
    good, key = read(session), only_key(hot)
    hot.delete(key)
    hot.rpush(key, "not", "a", "string")
    assert window.load(session.pk, session.version) is None
    assert not hot.exists(key)
    assert read(session) == good


def test_a_window_that_could_not_be_renewed_is_never_found(session: Session, hot: redis.Redis) -> None:
    """F16e: the database commits, the cache takes nothing."""
    say(session, "one")
    assert said(session) == ["one"]
    hot.config_set("maxmemory", 1)
    try:
        say(session, "two")
        assert said(session) == ["one", "two"]
        delete_last(session)
        say(session, "other")
        assert said(session) == ["one", "other"]
        history.clear(session.pk)
        session.refresh_from_db()
        assert said(session) == []
    finally:
        hot.config_set("maxmemory", 0)
    # The stale one still lay there all the time, under its own version.
    assert len(hot.keys("*convo:window:*")) == 1


@pytest.fixture
def proxy(settings: Settings, valkey: str, hot: redis.Redis) -> Iterator[Proxy]:
    """Stands between the cache and its Redis."""
    with Proxy(int(urlsplit(valkey).port or 0)) as proxy:
        keep_windows_in(settings, f"redis://127.0.0.1:{proxy.port}/0")
        yield proxy


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_a_cache_that_is_away_costs_little_and_is_used_again_once_it_is_back(
    session: Session, hot: redis.Redis, proxy: Proxy, fault: Fault
) -> None:
    """F15, F16"""
    say(session, "one", "two")
    assert said(session) == said(session) == ["one", "two"]
    proxy.delay = 1.0
    proxy.fail(fault)
    began = time.monotonic()
    assert [said(session) for _ in range(20)] == [["one", "two"]] * 20
    assert time.monotonic() - began < PATIENCE_SECONDS
    proxy.heal()

    def warm() -> bool:
        hot.config_resetstat()
        assert said(session) == ["one", "two"]
        return commands(hot) == {"get": 1}

    wait_until(warm)


def test_a_cache_that_is_a_little_slow_is_used(session: Session, hot: redis.Redis, proxy: Proxy) -> None:
    say(session, "one")
    proxy.delay = 0.01
    proxy.fail(Fault.SLOW)
    assert said(session) == ["one"]
    hot.config_resetstat()
    assert said(session) == ["one"]
    assert commands(hot) == {"get": 1}


def outcome(breaker: Breaker, action: Callable[[], object]) -> str:
    try:
        with breaker:
            action()
    except BreakerOpen:
        return "resting"
    except Exception as error:
        return type(error).__name__
    return "asked"


def away() -> None:
    raise redis.ConnectionError


def test_only_what_is_away_is_left_alone() -> None:
    breaker = Breaker(open_seconds=60, failure_types=CONNECTION_ERRORS)
    assert outcome(breaker, lambda: 1 / 0) == "ZeroDivisionError"
    assert outcome(breaker, away) == "ConnectionError"
    assert outcome(breaker, away) == "resting"


def test_a_cancelled_call_neither_opens_nor_closes_the_breaker() -> None:
    def cancelled() -> None:
        raise asyncio.CancelledError

    breaker = Breaker(open_seconds=0.01, failure_types=CONNECTION_ERRORS)
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError), breaker:
            cancelled()
        assert not breaker.is_open
    assert outcome(breaker, away) == "ConnectionError"
    time.sleep(0.05)
    with pytest.raises(asyncio.CancelledError), breaker:
        cancelled()
    assert breaker.is_open
    time.sleep(0.05)
    assert outcome(breaker, lambda: None) == "asked"
    assert not breaker.is_open


def test_one_caller_tries_a_cache_that_was_away_while_the_others_go_on() -> None:
    breaker = Breaker(open_seconds=0.2, failure_types=CONNECTION_ERRORS)
    assert outcome(breaker, away) == "ConnectionError"
    wait_until(lambda: outcome(breaker, lambda: None) == "asked")
    # Back it is, for everybody.
    assert [outcome(breaker, lambda: None) for _ in range(3)] == ["asked"] * 3
    assert outcome(breaker, away) == "ConnectionError"

    def one_of_ten() -> list[str]:
        with ThreadPoolExecutor(10) as pool:
            together = Barrier(10)

            def ask(_: int) -> str:
                together.wait()
                return outcome(breaker, lambda: time.sleep(0.1))

            return list(pool.map(ask, range(10)))

    asked = wait_until(lambda: (found := one_of_ten()).count("resting") != 10 and found)
    assert asked.count("asked") == 1


def long_text(bytes_: int) -> TranscriptMessage:
    return A_LINE._replace(content="a" * bytes_)


def wide_text(bytes_: int) -> TranscriptMessage:
    return A_LINE._replace(content="ä" * (bytes_ // 2))


def long_result(bytes_: int) -> TranscriptMessage:
    return A_LINE._replace(type="function_call_output", item={"call_id": "c", "output": "a" * bytes_})


A_LINE = TranscriptMessage(
    position=1,
    turn=1,
    type="message",
    role="user",
    name="",
    agent="",
    content="",
    item=None,
    tokens=1,
    from_model_turn=True,
)


@pytest.mark.parametrize("made", [long_text, wide_text, long_result], ids=lambda made: made.__name__)
@pytest.mark.parametrize("place", ["redis", "process"])
def test_a_window_of_more_bytes_than_its_share_is_not_kept(
    request: pytest.FixtureRequest, place: str, made: Callable[[int], TranscriptMessage]
) -> None:
    """Review 16: one session held 70 MB of a process, and kept everybody from Redis while it was read."""
    if place == "redis":
        request.getfixturevalue("hot")
    id, version, share = uuid4(), (0, 1), window.MAX_BYTES
    window.store(id, version, [made(share - 1000)])
    assert window.load(id, version) == [made(share - 1000)]
    window.store(id, (0, 2), [made(share // 2 + 1000)] * 2)
    assert window.load(id, (0, 2)) is None
    window.store(id, (0, 3), [made(share + 1000)])
    assert window.load(id, (0, 3)) is None


def test_a_session_whose_window_is_not_kept_is_read_whole(session: Session, hot: redis.Redis) -> None:
    """Review 16"""
    say(session, "one", "a" * window.MAX_BYTES, *map(str, range(window.MAX_MESSAGES)))
    (long,) = [
        line
        for line in history.recent_messages(session.pk, read(session), pairs=None, budget=10**9, model="")
        if len(line.content) > 100
    ]
    assert len(long.content) == window.MAX_BYTES
    say(session, "b" * window.MAX_BYTES)
    assert len(read(session)) == window.MAX_MESSAGES
    assert len(hot.keys("*convo:window:*")) == 1
    assert [len(line.content) for line in read(session)][-1] == window.MAX_BYTES


def test_without_redis_at_most_two_hundred_windows_are_kept() -> None:
    for _ in range(250):
        window.store(uuid4(), (0, 0), [])
    kept = [key for key in cache._cache if "convo:window" in key]  # type: ignore[attr-defined]
    assert 100 < len(kept) <= 200
