"""A deadline that moves often rings when the last one has passed, once and not before."""

import asyncio
from collections.abc import Callable
from contextlib import closing

import pytest
import uvloop

from convo.alarm import Alarm

pytestmark = pytest.mark.once

TICK = 0.02


def rings(use: Callable[[Alarm, float], None], *, seconds: float) -> list[float]:
    """The ticks after which an alarm rang that was used like this at the beginning."""

    async def watch() -> list[float]:
        loop = asyncio.get_running_loop()
        began, rung = loop.time(), list[float]()
        with closing(Alarm(lambda: rung.append((loop.time() - began) / TICK))) as alarm:
            use(alarm, began)
            await asyncio.sleep(seconds)
        return rung

    # The event loop of the server, whose timers have fewer methods than those of asyncio.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(watch())


def test_a_deadline_that_moves_rings_once_when_the_last_one_has_passed() -> None:
    def move(alarm: Alarm, now: float) -> None:
        for ticks in (1, 2, 3):
            alarm.set(now + ticks * TICK)

    (rung,) = rings(move, seconds=8 * TICK)
    assert rung >= 2.9


def test_an_earlier_deadline_rings_earlier() -> None:
    def move(alarm: Alarm, now: float) -> None:
        alarm.set(now + 1000)
        alarm.set(now + TICK)

    assert len(rings(move, seconds=20 * TICK)) == 1


def test_a_deadline_that_has_passed_rings_at_once_and_can_be_moved_before_that() -> None:
    def move(alarm: Alarm, now: float) -> None:
        alarm.set(now - 1)
        alarm.set(now + 2 * TICK)

    assert len(rings(lambda alarm, now: alarm.set(now - 1), seconds=2 * TICK)) == 1
    (rung,) = rings(move, seconds=8 * TICK)
    assert rung >= 1.9


def test_a_paused_alarm_is_silent_until_it_is_set_again() -> None:
    def pause(alarm: Alarm, now: float) -> None:
        alarm.set(now + TICK)
        alarm.pause()

    def set_again(alarm: Alarm, now: float) -> None:
        pause(alarm, now)
        asyncio.get_running_loop().call_later(3 * TICK, alarm.set, now + 5 * TICK)

    assert rings(pause, seconds=4 * TICK) == []
    (rung,) = rings(set_again, seconds=12 * TICK)
    assert rung >= 4.9


def test_a_closed_alarm_never_rings() -> None:
    def close(alarm: Alarm, now: float) -> None:
        alarm.set(now + TICK)
        alarm.close()

    assert rings(close, seconds=4 * TICK) == []
