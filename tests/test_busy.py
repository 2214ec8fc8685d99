"""Two at once in one session: one is refused, waits its turn, or takes the other's place."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from pytest_django import Settings

from convo import database, jobs, turns
from convo.errors import TurnCancelled, TurnInProgress
from convo.models import ME, Person, Session, Turn
from convo.turns import Claim, TurnResult, runner
from tests.support.leases import expire
from tests.support.threads import in_thread
from tests.talk import ask, begin, said
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def session(alice: Any) -> Session:
    return Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, ME), agent="assistant"
    )


@pytest.fixture(autouse=True)
def model(settings: Settings, upstream: Upstream) -> Callable[..., None]:
    def choose(name: str, **conf: Any) -> None:
        fast = {"HEARTBEAT_SECONDS": 0.05, "CHECKPOINT_SECONDS": 0.05, "CANCEL_SECONDS": 2.0}
        settings.CONVO = {
            **settings.CONVO,
            "OPENAI_BASE_URL": upstream.url,
            "MODEL": name,
            **fast,
            **conf,
        }

    choose("words-3")
    return choose


def test_of_twenty_at_once_one_is_answered_and_nineteen_are_told(session: Session) -> None:
    ready, outcomes = threading.Barrier(20), []

    def one() -> None:
        ready.wait()
        try:
            begin(session)
            outcomes.append("claimed")
        except TurnInProgress as error:
            outcomes.append(error.details["turn"]["number"])

    for thread in [in_thread(one) for _ in range(20)]:
        thread.join()
    assert sorted(map(str, outcomes)) == ["1"] * 19 + ["claimed"]
    assert said(session) == ["u:hello"]


def test_questions_in_the_queue_are_answered_in_the_order_in_which_they_came(session: Session) -> None:
    first = begin(session, "first")
    places = [begin(session, text, on_busy="queue") for text in ("second", "third", "fourth")]
    assert [place.is_queued for place in places] == [True] * 3
    assert said(session) == ["u:first"]

    async def everybody() -> list[TurnResult]:
        waiting = [asyncio.create_task(turns.answer(place)) for place in reversed(places)]
        await asyncio.sleep(0.3)
        return [await turns.answer(first), *reversed([await task for task in waiting])]

    results = async_to_sync(everybody)()
    assert [result.turn.status for result in results] == ["complete"] * 4
    asked = [line for line in said(session) if line.startswith("u:")]
    assert asked == ["u:first", "u:second", "u:third", "u:fourth"]
    assert [line[0] for line in said(session)] == ["u", "a"] * 4


def test_the_queue_has_one_order_for_those_who_wait_on_event_loops_of_their_own(
    session: Session, upstream: Upstream
) -> None:
    """Review 17: of what waits elsewhere, in other processes too, the rows alone know."""
    first = begin(session, "0")
    places = [begin(session, f"{number}", on_busy="queue") for number in range(1, 6)]
    waiting = [in_thread(running(place, upstream)) for place in reversed(places)]
    time.sleep(0.3)
    running(first, upstream)()
    for thread in waiting:
        thread.join()
    assert [line for line in said(session) if line[0] == "u"] == [f"u:{number}" for number in range(6)]


def test_nobody_jumps_the_queue(session: Session) -> None:
    dead = begin(session, "first")
    begin(session, "second", on_busy="queue")
    Turn.objects.filter(pk=dead.turn.pk).update(status="failed", lease_until=None)
    with pytest.raises(TurnInProgress, match="Turn 2 is queued"):
        begin(session, "pushing in")


def test_a_queue_has_an_end(session: Session, model: Callable[..., None]) -> None:
    model("words-3", QUEUE_LENGTH=2)
    begin(session, "first")
    for text in ("second", "third"):
        begin(session, text, on_busy="queue")
    with pytest.raises(TurnInProgress, match="2 questions are already waiting"):
        begin(session, "fourth", on_busy="queue")


def test_who_waited_too_long_in_the_queue_is_told(session: Session, model: Callable[..., None]) -> None:
    model("words-3", QUEUE_SECONDS=0.3)
    begin(session, "first")
    result = async_to_sync(turns.answer)(begin(session, "second", on_busy="queue"))
    assert isinstance(result.failure, TurnInProgress)
    assert result.turn.input[0]["content"] == "second"
    assert said(session) == ["u:first"]


def test_who_is_not_the_first_to_wait_is_told_in_time_too(
    session: Session, model: Callable[..., None]
) -> None:
    """Review 17: those behind the first do not ask, and end all the same."""
    model("words-3", QUEUE_SECONDS=0.3)
    begin(session, "first")
    places = [begin(session, text, on_busy="queue") for text in ("second", "third")]

    async def both() -> list[TurnResult]:
        return await asyncio.wait_for(asyncio.gather(*map(turns.answer, places)), 10)

    assert [type(result.failure) for result in async_to_sync(both)()] == [TurnInProgress] * 2


def test_a_dead_place_in_the_queue_holds_nobody_up(session: Session) -> None:
    expire(begin(session, "first"))
    expire(begin(session, "second", on_busy="queue"))
    assert ask(session, "third").turn.status == "complete"
    assert list(Turn.objects.order_by("number").values_list("status", flat=True)) == [
        "failed",
        "failed",
        "complete",
    ]


def test_the_sweep_ends_dead_places_in_the_queue(session: Session) -> None:
    begin(session, "first")
    expire(begin(session, "second", on_busy="queue"))
    jobs.sweep()
    assert Turn.objects.get(number=2).status == "failed"
    assert Turn.objects.get(number=1).status == "running"


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """All that is asked of the database from now on, on connections that are opened from now on."""
    found: list[str] = []

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        found.append(sql)
        return execute(sql, *rest)

    def watch(connection: BaseDatabaseWrapper, **_: object) -> None:
        # Not twice, where a thread's connection is opened again.
        if note not in connection.execute_wrappers:
            connection.execute_wrappers.append(note)

    connection_created.connect(watch)
    yield found
    connection_created.disconnect(watch)


def test_of_those_who_wait_in_the_queue_only_the_first_asks_and_without_a_lock(
    session: Session, model: Callable[..., None], statements: list[str]
) -> None:
    """Review 17: each of them asked for the session's row lock, and so kept the running turn from its end."""
    model("words-3", HEARTBEAT_SECONDS=5)
    ahead = begin(session, "first")
    places = [begin(session, f"question {number}", on_busy="queue") for number in range(10)]
    seconds = 1.0

    async def everybody() -> list[str]:
        waiting = [asyncio.create_task(turns.answer(place)) for place in reversed(places)]
        await asyncio.sleep(0.2)
        statements.clear()
        await asyncio.sleep(seconds)
        asked = list(statements)
        await turns.answer(ahead)
        await asyncio.wait_for(asyncio.gather(*waiting), 30)
        return asked

    asked = async_to_sync(everybody)()
    assert asked
    assert not [sql for sql in asked if "convo_session" in sql]
    assert len([sql for sql in asked if "convo_turn" in sql]) <= 2 * seconds / runner.POLL_SECONDS
    # The same eyes do see the lock, once the first of them starts.
    assert [sql for sql in statements if "convo_session" in sql]


def test_who_leaves_the_queue_lets_the_next_one_ask(session: Session, upstream: Upstream) -> None:
    """Review 17"""
    ahead = begin(session, "first")
    gone, *rest = [begin(session, text, on_busy="queue") for text in ("second", "third", "fourth")]

    async def leave_meanwhile() -> list[TurnResult]:
        leaving, *waiting = [asyncio.create_task(turns.answer(place)) for place in (gone, *rest)]
        await asyncio.sleep(0.3)
        await database.run(turns.cancel, gone.turn)
        results = [await leaving, await turns.answer(ahead)]
        return results + [await asyncio.wait_for(task, 30) for task in waiting]

    results = async_to_sync(leave_meanwhile)()
    assert isinstance(results[0].failure, TurnCancelled)
    assert [line for line in said(session) if line.startswith("u:")] == ["u:first", "u:third", "u:fourth"]
    assert len(upstream.heard) == 3


def running(claim: Claim, upstream: Upstream) -> Callable[[], Any]:
    """The turn, run on an event loop of its own until its end."""
    assert upstream
    return lambda: asyncio.run(turns.answer(claim))


def wait_for_draft(claim: Claim) -> str:
    end = time.monotonic() + 5
    while not (draft := Turn.objects.get(pk=claim.turn.pk).draft):
        assert time.monotonic() < end
        time.sleep(0.01)
    return draft


def test_a_cancelled_turn_stops_its_model_and_keeps_its_text(
    session: Session, model: Callable[..., None], upstream: Upstream
) -> None:
    model("hold")
    claim = begin(session)
    runner = in_thread(running(claim, upstream))
    draft = wait_for_draft(claim)
    began = time.monotonic()
    turns.cancel(claim.turn)
    assert time.monotonic() - began < 5
    assert upstream.idle.wait(5)
    runner.join()
    turn = Turn.objects.get(pk=claim.turn.pk)
    assert (turn.status, turn.error["code"] if turn.error else "") == ("cancelled", "turn_cancelled")
    assert said(session) == ["u:hello", "a:" + draft]
    turns.cancel(turn)
    assert said(session) == ["u:hello", "a:" + draft]


def test_a_turn_whose_runner_does_not_answer_is_taken_with_its_draft(
    session: Session, model: Callable[..., None]
) -> None:
    model("hold", CANCEL_SECONDS=0.1)
    claim = begin(session)
    Turn.objects.filter(pk=claim.turn.pk).update(
        draft="half a re", chunks=[{"index": 0, "kind": "message", "chunk_lengths": [9]}]
    )
    turns.cancel(claim.turn)
    assert said(session) == ["u:hello", "a:half a re"]
    assert Turn.objects.get(pk=claim.turn.pk).status == "cancelled"


def test_an_interruption_takes_the_place_of_the_running_turn(
    session: Session, model: Callable[..., None], upstream: Upstream
) -> None:
    model("hold")
    claim = begin(session, "first")
    runner = in_thread(running(claim, upstream))
    draft = wait_for_draft(claim)
    second = begin(session, "second", on_busy="interrupt")
    runner.join()
    model("words-3")
    async_to_sync(turns.answer)(second)
    assert said(session)[:3] == ["u:first", "a:" + draft, "u:second"]
    assert Turn.objects.get(number=1).status == "cancelled"


def test_a_cancelled_place_in_the_queue_is_never_asked(session: Session, upstream: Upstream) -> None:
    begin(session, "first")
    place = begin(session, "second", on_busy="queue")

    async def cancel_meanwhile() -> TurnResult:
        waiting = asyncio.create_task(turns.answer(place))
        await database.run(turns.cancel, place.turn)
        return await waiting

    result = async_to_sync(cancel_meanwhile)()
    assert isinstance(result.failure, TurnCancelled)
    assert upstream.heard == []
