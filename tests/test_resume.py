"""A turn's events can be read again, from any process and any place in them, and are the same bytes."""

import asyncio
import gc
import importlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from typing import Any
from uuid import UUID, uuid4
from weakref import ref

import httpx2
import pytest
import redis
from django.db import connection
from pytest_django import Settings

from convo import database, events, jobs
from convo.errors import NotAuthenticated
from convo.events import ENDED_ELSEWHERE, Delta, Log, LogReader
from convo.events.mirror import stream_of
from convo.models import ME, Message, Person, Session, Turn
from tests.conftest import Serve
from tests.faults import QUICK, QUICK_LEASES, new_session, wait_until
from tests.servers import ROOT, Server, Standing, client_of
from tests.support.following import asking, following, frames, names, take
from tests.support.leases import expire
from tests.talk import begin
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

READERS = 200
AGENTS = {"CONVO_AGENTS_FILE": str(ROOT / "tests" / "agents.yaml")}
SECONDS = 30
ENDINGS = ["words", "echo", "hold", "tool-call", "surrogates", "length", "drop", "silent-end", "500"]


# Frames, as they come over the wire.


def id_of(frame: bytes) -> int:
    return int(frame.split(b"\n")[0].removeprefix(b"id: "))


@pytest.fixture(params=["redis", "rows"])
def live(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where processes find each other's live events: in Redis, or in the database."""
    return {"REDIS_URL": request.getfixturevalue("valkey")} if request.param == "redis" else {}


@pytest.fixture
def two(share: Serve, upstream: Upstream, live: dict[str, str]) -> tuple[Server, Server]:
    """Two processes of one service; agents answer as they are called."""
    env = {**QUICK_LEASES, **AGENTS, **live, "OPENAI_BASE_URL": upstream.url}
    return share(**env), share(number=1, **env)


@pytest.fixture
def here(two: tuple[Server, Server], alice_key: str) -> Iterator[httpx2.Client]:
    """Alice's client of the process that runs the turns."""
    with client_of(two[0], alice_key) as client:
        yield client


@pytest.fixture
def there(two: tuple[Server, Server], alice_key: str) -> Iterator[httpx2.Client]:
    """Her client of the other one."""
    with client_of(two[1], alice_key) as client:
        yield client


def test_a_turn_is_followed_from_its_middle_in_another_process_as_it_is_written(
    here: httpx2.Client, there: httpx2.Client, upstream: Upstream
) -> None:
    """F17b"""
    session = new_session(here)
    with ExitStack() as stack:
        arriving = stack.enter_context(asking(here, session, agent="hold"))
        seen = take(arriving, 3)
        assert names(seen) == [b"turn.started", b"delta", b"delta"]
        # Two tabs from the beginning, one that comes back, one that names its place, one beside the runner.
        tabs = [stack.enter_context(following(there, session)) for _ in range(2)]
        assert [take(tab, 3) for tab in tabs] == [seen, seen]
        back = stack.enter_context(following(there, session, last_id=1))
        assert take(back, 1) == seen[2:]
        placed = stack.enter_context(following(there, session, after=2))
        beside = stack.enter_context(following(here, session, last_id=0))
        upstream.release()
        whole = [*seen, *arriving]
        assert names(whole)[3:] == [b"delta", b"usage", b"turn.completed"]
        assert [list(tab) for tab in tabs] == [whole[3:], whole[3:]]
        assert list(back) == list(placed) == whole[3:]
        assert list(beside) == whole[1:]
    assert len(upstream.heard) == 1


def test_what_has_ended_is_read_again_byte_by_byte_from_every_place(
    here: httpx2.Client, there: httpx2.Client, upstream: Upstream
) -> None:
    """F17b"""
    for agent in ENDINGS:
        upstream.forget()
        upstream.release()
        session = new_session(here)
        with asking(here, session, agent=agent) as arriving:
            whole = list(arriving)
        assert names(whole)[0] == b"turn.started"
        assert names(whole)[-1] in {b"turn.completed", b"error"}
        for client in (here, there, there):
            with following(client, session) as again:
                assert list(again) == whole, agent
            for place, last in enumerate(whole):
                with following(client, session, last_id=id_of(last)) as again:
                    assert list(again) == whole[place + 1 :], (agent, place)
        assert len(upstream.heard) == 1


def test_a_turn_that_waits_in_the_queue_can_be_followed(
    here: httpx2.Client, there: httpx2.Client, upstream: Upstream
) -> None:
    session = new_session(here)
    with asking(here, session, agent="hold") as first, ExitStack() as stack:
        take(first, 2)
        queued = stack.enter_context(asking(here, session, agent="words", on_busy="queue"))
        path = f"/api/v1/sessions/{session}/turns/2/events/"
        tab = stack.enter_context(there.stream("GET", path))
        upstream.release()
        assert list(frames(tab)) == list(queued)
        assert names(list(first))[-1] == b"turn.completed"


def test_a_turns_events_are_its_owners_alone(
    two: tuple[Server, Server], here: httpx2.Client, upstream: Upstream, bob_key: str
) -> None:
    session = new_session(here)
    with asking(here, session, agent="hold") as arriving:
        take(arriving, 2)
        for server in two:
            with client_of(server, bob_key) as bob, client_of(server) as nobody:
                foreign = bob.get(f"/api/v1/sessions/{session}/turns/1/events/")
                missing = bob.get(f"/api/v1/sessions/{uuid4()}/turns/1/events/")
                assert (foreign.status_code, foreign.content) == (404, missing.content)
                assert nobody.get(f"/api/v1/sessions/{session}/turns/1/events/").status_code == 401
        with following(here, session) as hers:
            assert len(take(hers, 2)) == 2
        upstream.release()
        assert names(list(arriving))[-1] == b"turn.completed"


def test_readers_elsewhere_learn_that_the_writer_was_killed(
    two: tuple[Server, Server], here: httpx2.Client, there: httpx2.Client, share: Serve
) -> None:
    """F1, seen from another process"""
    # It sweeps: it finds the heart that beats no more, and the other process tells its readers.
    share(**QUICK)
    session = new_session(here)
    with ExitStack() as stack:
        arriving = stack.enter_context(asking(here, session, agent="stall"))
        seen = take(arriving, 3)
        tab = stack.enter_context(following(there, session))
        assert take(tab, 3) == seen
        wait_until(lambda: Turn.objects.filter(draft="one two ").exists())
        two[0].kill()
        with pytest.raises(httpx2.TransportError):
            list(arriving)
        (last,) = tab
    told = json.loads(last.split(b"data: ")[1])
    assert (told["error"]["code"], told["message"]["content"]) == ("interrupted", "one two ")
    with following(there, session, last_id=2) as again:
        assert list(again) == [last]


def test_events_in_redis_are_few_and_do_not_stay(
    serve: Serve, valkey: str, alice_key: str, upstream: Upstream
) -> None:
    env = {**QUICK, **AGENTS, "OPENAI_BASE_URL": upstream.url}
    server = serve(REDIS_URL=valkey, CONVO_EVENTS_SECONDS="2", CONVO_MIRROR_SECONDS="0.2", **env)
    with client_of(server, alice_key) as client, redis.Redis.from_url(valkey) as hot:
        session = new_session(client)
        with asking(client, session, agent="slow") as arriving:
            whole = list(arriving)
        stream = stream_of(Turn.objects.get().key)
        assert names(whole).count(b"delta") == 5
        wait_until(lambda: hot.xlen(stream))
        assert hot.xlen(stream) < 5
        assert 0 < hot.pttl(stream) <= 2000
        wait_until(lambda: not hot.exists(stream))
        with following(client, session) as again:
            assert list(again) == whole


# Inside one process, where what Redis says and what the rows say can be set against each other.


@pytest.fixture
def turn(alice: Any) -> Turn:
    """A turn that some other process runs."""
    session = Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, ME), agent="a"
    )
    lease = database.seconds_from_now(3600)
    return Turn.objects.create(session=session, number=1, status="running", agent="a", lease_until=lease)


@pytest.fixture
def hot(settings: Settings, valkey: str) -> Iterator[redis.Redis]:
    """The Redis that this process follows; the rows are asked often enough for a test."""
    settings.CONVO = {**settings.CONVO, "REDIS_URL": valkey, "FOLLOW_SECONDS": 0.05, "MIRROR_SECONDS": 0.01}
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
        yield client


def save(turn: Turn, *deltas: str) -> None:
    """What the heartbeat of the turn's process does now and then."""
    pieces = cuts(deltas)
    Turn.objects.filter(pk=turn.pk).update(draft="".join(deltas), chunks=pieces)


def end(turn: Turn, *deltas: str) -> None:
    Message.objects.create(
        session=turn.session, turn=turn, position=1, role="assistant", agent="a", content="".join(deltas)
    )
    pieces = cuts(deltas)
    Turn.objects.filter(pk=turn.pk).update(draft="", chunks=pieces, status="complete", lease_until=None)


def cuts(deltas: Sequence[str]) -> list[dict[str, Any]]:
    return [{"index": 0, "kind": "message", "chunk_lengths": [len(delta) for delta in deltas]}]


def spoken(*texts: str) -> list[Delta]:
    return [Delta(0, "message", text) for text in texts]


def entry(at: int, *texts: str, ended: bool = False) -> dict[Any, Any]:
    return {"at": at, "deltas": json.dumps(spoken(*texts)), "ended": int(ended)}


async def heard(log: Log[Any], count: int) -> list[str]:
    """The log's deltas, once there are so many."""
    async with asyncio.timeout(SECONDS):
        found: list[str] = []
        async for batch in LogReader(log).batches(heartbeat_seconds=SECONDS):
            found += [delta.text for delta in batch]
            if len(found) >= count:
                return found
    raise AssertionError(f"It ended after {found}.")


async def ended(log: Log[Any]) -> list[str]:
    """All of the log's deltas, once another process has ended it."""
    async with asyncio.timeout(SECONDS):
        assert await log.wait_until_ended() is ENDED_ELSEWHERE
    return [delta.text for delta in log.deltas]


def test_what_redis_lost_is_filled_in_by_the_rows(turn: Turn, hot: redis.Redis) -> None:
    async def follow() -> None:
        log = await events.log_of(turn.key)
        hot.xadd(stream_of(turn.key), entry(0, "a", "b"))
        assert await heard(log, 2) == ["a", "b"]
        # What was between is gone with a flush; what comes after it must wait, and is not forgotten.
        hot.flushall()
        hot.xadd(stream_of(turn.key), entry(3, "d", "e"))
        hot.xadd(stream_of(turn.key), entry(5, "f"))
        await database.run(save, turn, "a", "b", "c")
        assert await heard(log, 6) == list("abcdef")
        # What was sent twice is said once.
        hot.xadd(stream_of(turn.key), entry(4, "e", "f", "g"))
        assert await heard(log, 7) == list("abcdefg")
        await database.run(end, turn, *"abcdefg")
        hot.xadd(stream_of(turn.key), entry(7, ended=True))
        assert await ended(log) == list("abcdefg")

    asyncio.run(follow())


def test_a_reader_whose_beginning_redis_has_dropped_gets_it_from_the_rows(
    turn: Turn, hot: redis.Redis
) -> None:
    save(turn, "a", "b")
    hot.xadd(stream_of(turn.key), entry(2, "c"))

    async def follow() -> None:
        assert await heard(await events.log_of(turn.key), 3) == ["a", "b", "c"]

    asyncio.run(follow())


GARBAGE = {
    "no fields of ours": lambda hot, key: hot.xadd(key, {"x": "y"}),
    "no number": lambda hot, key: hot.xadd(key, {**entry(0), "at": "first"}),
    "no json": lambda hot, key: hot.xadd(key, {**entry(0), "deltas": "["}),
    "no list": lambda hot, key: hot.xadd(key, {**entry(0), "deltas": "7"}),
    "no text": lambda hot, key: hot.xadd(key, {**entry(0), "deltas": b"\xff\xfe"}),
    "no stream": lambda hot, key: hot.set(key, "x"),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=list(GARBAGE))
def test_of_what_makes_no_sense_the_rows_know_more(
    turn: Turn, hot: redis.Redis, garbage: Callable[[redis.Redis, str], object]
) -> None:
    async def follow() -> None:
        log = await events.log_of(turn.key)
        garbage(hot, stream_of(turn.key))
        await database.run(save, turn, "a", "b")
        assert await heard(log, 2) == ["a", "b"]
        await database.run(end, turn, "a", "b", "c")
        assert await ended(log) == ["a", "b", "c"]

    asyncio.run(follow())


def rename_turns(old: str, new: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


def test_readers_outlast_a_database_that_fails(
    turn: Turn, hot: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    save(turn, "a")

    async def follow() -> None:
        log = await events.log_of(turn.key)
        assert await heard(log, 1) == ["a"]
        await database.run(rename_turns, "convo_turn", "away")
        try:
            async with asyncio.timeout(SECONDS):
                while "saved replies could not be read" not in caplog.text:
                    await asyncio.sleep(0.01)
        finally:
            await database.run(rename_turns, "away", "convo_turn")
        await database.run(end, turn, "a", "b")
        assert await ended(log) == ["a", "b"]

    asyncio.run(follow())


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that have nothing to do are closed soon, as they are after a minute otherwise."""
    monkeypatch.setattr(importlib.import_module("convo.events.mirror"), "IDLE_SECONDS", 0.05)


@pytest.mark.usefixtures("_impatient")
def test_a_log_that_redis_refuses_keeps_no_other_from_being_mirrored(turn: Turn, hot: redis.Redis) -> None:
    refused, taken = uuid4(), uuid4()
    hot.set(stream_of(refused), "something else")

    async def write() -> None:
        logs: dict[UUID, Log[Any]] = {refused: Log(), taken: Log()}
        for key, log in logs.items():
            events.mirror(key, log)
            log.append(*spoken("a"))
        async with asyncio.timeout(SECONDS):
            while not hot.exists(stream_of(taken)):
                await asyncio.sleep(0.01)
            for log in logs.values():
                log.append(*spoken("b"))
                log.close("over")
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.01)

    asyncio.run(write())
    entries: Any = hot.xrange(stream_of(taken))
    kept = [json.loads(fields[b"deltas"]) for _, fields in entries]
    assert [delta for deltas in kept for _, _, delta, *_ in deltas] == ["a", "b"]
    assert hot.get(stream_of(refused)) == b"something else"


def test_only_so_much_of_a_reply_is_kept_in_redis(
    turn: Turn, hot: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("convo.events.mirror"), "MAX_BATCHES", 100)
    stream = stream_of(turn.key)

    async def write() -> None:
        log: Log[Any] = Log()
        events.mirror(turn.key, log)
        for number in range(350):
            log.append(*spoken(f"{number} "))
            while hot.xinfo_stream(stream)["entries-added"] <= number if number else not hot.exists(stream):
                await asyncio.sleep(0.005)
        log.close("over")

    asyncio.run(write())
    assert 100 <= hot.xlen(stream) < 300


async def leave(readers: list[asyncio.Task[list[str]]]) -> None:
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


@pytest.mark.usefixtures("_impatient")
def test_readers_that_leave_leave_nothing_behind(turn: Turn, hot: redis.Redis) -> None:
    connected = hot.info("clients")["connected_clients"]

    async def come_and_go() -> None:
        logs = await asyncio.gather(*(events.log_of(turn.key) for _ in range(READERS)))
        assert len(set(map(id, logs))) == 1
        readers = [asyncio.create_task(heard(log, 9)) for log in logs]
        await asyncio.sleep(0)
        hot.xadd(stream_of(turn.key), entry(0, "a"))
        assert await heard(logs[0], 1) == ["a"]
        # All of them share one connection.
        assert hot.info("clients")["connected_clients"] <= connected + 1
        await leave(readers)
        del logs, readers
        async with asyncio.timeout(SECONDS):
            # The one task beside this one feeds the log for as long as somebody holds it.
            while len(asyncio.all_tasks()) > 1:
                gc.collect()
                await asyncio.sleep(0.01)

    asyncio.run(come_and_go())
    wait_until(lambda: hot.info("clients")["connected_clients"] <= connected)


def test_a_reader_that_leaves_while_a_word_arrives_is_gone() -> None:
    async def read_along() -> None:
        log: Log[Any] = Log()
        reader = asyncio.create_task(heard(log, 2))
        await asyncio.sleep(0)
        log.append(*spoken("a"))
        reader.cancel()
        await asyncio.wait([reader], timeout=SECONDS)
        assert reader.cancelled()
        # One that stays hears it.
        assert await heard(log, 1) == ["a"]

    asyncio.run(read_along())


def test_a_reader_hears_two_words_that_arrive_at_once() -> None:
    async def read_along() -> None:
        log: Log[Any] = Log()
        reader = asyncio.create_task(heard(log, 2))
        await asyncio.sleep(0)
        log.append(*spoken("a"))
        log.append(*spoken("b"))
        assert await reader == ["a", "b"]

    asyncio.run(read_along())


def test_an_interrupted_reader_hears_no_more() -> None:
    async def read_along() -> None:
        log: Log[Any] = Log()
        waiting, other = LogReader(log), asyncio.create_task(heard(log, 1))
        batches = waiting.batches(heartbeat_seconds=SECONDS)
        first = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        waiting.interrupt(NotAuthenticated())
        with pytest.raises(NotAuthenticated):
            await first
        log.append(*spoken("a"))
        with pytest.raises(NotAuthenticated):
            await anext(waiting.batches(heartbeat_seconds=SECONDS))
        with pytest.raises(NotAuthenticated):
            await waiting.wait_until_ended()
        # Nobody else is interrupted.
        assert await other == ["a"]

    asyncio.run(read_along())


def test_a_silent_log_beats_and_each_word_puts_the_beat_off() -> None:
    async def read_along() -> None:
        log: Log[Any] = Log()
        batches = LogReader(log).batches(heartbeat_seconds=0.1)
        assert await anext(batches) == []
        writer = asyncio.create_task(write(log))
        found = [await anext(batches) for _ in range(5)]
        assert [len(batch) for batch in found] == [1, 1, 1, 1, 0]
        await writer

    async def write(log: Log[Any]) -> None:
        for word in "abcd":
            await asyncio.sleep(0.04)
            log.append(*spoken(word))

    asyncio.run(read_along())


def test_a_reader_that_leaves_at_once_does_not_strand_the_one_beside_it(turn: Turn, hot: redis.Redis) -> None:
    async def follow() -> None:
        first = asyncio.create_task(events.log_of(turn.key))
        await asyncio.sleep(0)
        second = await events.log_of(turn.key)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        hot.xadd(stream_of(turn.key), entry(0, "a"))
        assert await heard(second, 1) == ["a"]

    asyncio.run(follow())


def test_event_loops_that_end_are_forgotten(turn: Turn, hot: redis.Redis) -> None:
    """`convo.ask` in a command has a loop of its own for every question."""
    connected = hot.info("clients")["connected_clients"]
    loops = []

    async def write_and_follow() -> None:
        loops.append(ref(asyncio.get_running_loop()))
        log: Log[Any] = Log()
        events.register(turn.key, log)
        events.mirror(turn.key, log)
        assert await events.log_of(turn.key) is log
        log.append(*spoken("a"))
        other = await events.log_of(uuid4())
        assert other.ending is ENDED_ELSEWHERE
        while not hot.exists(stream_of(turn.key)):
            await asyncio.sleep(0.005)

    for _ in range(5):
        hot.flushall()
        asyncio.run(write_and_follow())
    gc.collect()
    assert [loop() for loop in loops] == [None] * 5
    wait_until(lambda: hot.info("clients")["connected_clients"] <= connected)


def test_a_log_is_found_on_its_own_event_loop_alone(turn: Turn, hot: redis.Redis) -> None:
    """Another one would wait for it for ever: a log wakes only those on its own."""
    written = threading.Event()
    over = threading.Event()

    async def write() -> None:
        log: Log[Any] = Log()
        events.register(turn.key, log)
        log.append(*spoken("here"))
        written.set()
        await asyncio.to_thread(over.wait, SECONDS)

    async def follow() -> list[str]:
        log = await events.log_of(turn.key)
        await database.run(end, turn, "there")
        return await ended(log)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(asyncio.run, write())
        assert written.wait(SECONDS)
        assert asyncio.run(follow()) == ["there"]
        over.set()
        writing.result()


@pytest.mark.postgres
def test_200_streams_and_their_200_followers_in_another_process_finish_on_20_connections_each(
    serve: Serve, standing: Standing, valkey: str, alice_key: str, upstream: Upstream
) -> None:
    """F29"""
    standing.end()
    # With leases as long as they are: here many share two processors.
    env = {**AGENTS, "OPENAI_BASE_URL": upstream.url, "REDIS_URL": valkey, "CONVO_POOL_SIZE": "20"}
    here, there = serve(**env), serve(**env)
    halfway = asyncio.Barrier(READERS)

    async def read(client: httpx2.AsyncClient, other: httpx2.AsyncClient) -> tuple[list[bytes], list[bytes]]:
        made = await client.post("/api/v1/sessions/", json={"agent": "hold"})
        path = f"/api/v1/sessions/{made.json()['id']}"
        body = {"message": "hello", "stream": True}
        async with client.stream("POST", f"{path}/query/", json=body) as response:
            arriving = frames_of(response)
            seen = [await anext(arriving) for _ in range(2)]
            resumed = {"Last-Event-ID": "1"}
            async with other.stream("GET", f"{path}/turns/1/events/", headers=resumed) as response:
                following = frames_of(response)
                back = [await anext(following)]
                # All 200 are open here and there before the last word is written.
                await halfway.wait()
                upstream.release()
                back += [frame async for frame in following]
            return [*seen, *[frame async for frame in arriving]], back

    async def read_all() -> list[tuple[list[bytes], list[bytes]]]:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(many(server, alice_key)) for server in (here, there)]
            return await asyncio.gather(*(read(*clients) for _ in range(READERS)))

    for whole, back in asyncio.run(read_all()):
        assert names(whole) == [b"turn.started", *[b"delta"] * 3, b"usage", b"turn.completed"]
        assert back == whole[2:]
    assert Turn.objects.filter(status="complete").count() == READERS


def many(server: Server, key: str) -> httpx2.AsyncClient:
    limits, headers = httpx2.Limits(max_connections=READERS), {"Authorization": f"Bearer {key}"}
    return httpx2.AsyncClient(
        base_url=server.url, headers=headers, limits=limits, timeout=120, trust_env=False
    )


async def frames_of(response: httpx2.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in response.aiter_raw():
        *whole, rest = (rest + piece).split(b"\n\n")
        for frame in whole:
            if frame != b": hb":
                yield frame


def test_a_reader_who_heard_more_than_was_saved_is_told_that_the_reply_broke_off(
    share: Serve, alice: Any, alice_key: str
) -> None:
    """F17b: two words were heard, the process died before it saved one."""
    session = Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, ME), agent="assistant"
    )
    expire(begin(session))
    jobs.sweep()
    with client_of(share(), alice_key) as client:
        told = client.get(f"/api/v1/sessions/{session.pk}/turns/1/events/", headers={"Last-Event-ID": "2"})
    assert told.text.startswith("id: 3\nevent: error\n")
    assert '"code": "interrupted"' in told.text
