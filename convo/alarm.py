"""A deadline that moves with every chunk of a stream."""

import asyncio
from collections.abc import Callable
from math import inf


class Alarm:
    """Call `ring` once a deadline has passed.

    Moving the deadline only sets a number: the one timer is set anew when it fires too early. A timer and a
    context manager per chunk, as with `asyncio.timeout`, cost 5 µs each time.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._deadline = inf
        self._timer: asyncio.Handle | None = None
        self._timer_deadline = inf

    def set(self, deadline: float) -> None:
        """Ring at this time of the event loop's clock."""
        self._deadline = deadline
        if self._timer is None or self._timer_deadline > deadline:
            self._set_timer()

    def pause(self) -> None:
        self._deadline = inf

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.close()
        # For a time that has passed, uvloop returns a handle that doesn't know its time.
        self._timer, self._timer_deadline = self._loop.call_at(self._deadline, self._fire), self._deadline

    def _fire(self) -> None:
        self._timer = None
        if self._loop.time() >= self._deadline:
            self._deadline = inf
            self._ring()
        elif self._deadline < inf:
            self._set_timer()
