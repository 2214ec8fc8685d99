"""The live log of a running turn: one writer, any number of readers that come and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from convo.alarm import Alarm
from convo.models import ReplyItem

E = TypeVar("E")


# A reader gets at most this many deltas at once; a slow one takes one batch after the other.
MAX_BATCH_SIZE = 256


class Delta(NamedTuple):
    """The next text of one of a reply's items; the first delta of a call has its id and name."""

    item: int
    kind: str
    text: str
    call_id: str = ""
    name: str = ""


def delta_of(item: ReplyItem, index: int) -> Delta:
    call_fields = (item.call_id, item.name) if index == 0 else ("", "")
    return Delta(item.index, item.kind, item.chunks[index], *call_fields)


class Log(Generic[E]):
    """The deltas of a reply so far, and how it ended. A log lives on one event loop."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.ending: E | None = None
        self._is_accepted = False
        # The writer of the log sets this; it stops the turn.
        self.stop: Callable[[], None] = lambda: None
        self._waiting_readers: set[LogReader[E]] = set()

    @property
    def has_begun(self) -> bool:
        """True once the model server has accepted the question, or the reply has ended without that."""
        return self._is_accepted or bool(self.deltas) or self.ending is not None

    def mark_accepted(self) -> None:
        """Record that the model server has accepted the question."""
        self._is_accepted = True
        self._wake_readers()

    def append(self, *deltas: Delta) -> None:
        self.deltas.extend(deltas)
        self._wake_readers()

    def close(self, ending: E) -> None:
        """Close the log; the readers finish with this ending."""
        self.ending = ending
        self._wake_readers()

    def follow(self, *, heartbeat_seconds: float) -> AsyncIterator[list[Delta]]:
        """Yield all deltas in batches to a reader that is never interrupted."""
        return LogReader(self).batches(heartbeat_seconds=heartbeat_seconds)

    async def wait_until_ended(self) -> E:
        return await LogReader(self).wait_until_ended()

    def _wake_readers(self) -> None:
        for reader in self._waiting_readers:
            reader.wake()


class LogReader(Generic[E]):
    """One reader of a log, which can be interrupted."""

    def __init__(self, log: Log[E]) -> None:
        self._log = log
        self._woken: asyncio.Future[bool] | None = None
        self._error: Exception | None = None

    def interrupt(self, error: Exception) -> None:
        """Raise this error in the reader, at its next wait or in the one that is going on."""
        self._error = error
        self.wake()

    def wake(self, *, for_heartbeat: bool = False) -> None:
        if self._woken and not self._woken.done():
            self._woken.set_result(for_heartbeat)

    async def batches(self, *, heartbeat_seconds: float) -> AsyncIterator[list[Delta]]:
        """Yield all deltas of the log in batches; an empty one as a heartbeat."""
        log, start, now = self._log, 0, asyncio.get_running_loop().time
        alarm = Alarm(partial(self.wake, for_heartbeat=True))
        with closing(alarm):
            while True:
                self._raise_interruption()
                batch = log.deltas[start : start + MAX_BATCH_SIZE]
                start += len(batch)
                if batch:
                    yield batch
                elif log.ending is not None:
                    return
                else:
                    alarm.set(now() + heartbeat_seconds)
                    if await self._wait_for_change():
                        yield []

    async def wait_until_ended(self) -> E:
        while self._log.ending is None:
            await self._wait_for_change()
        return self._log.ending

    async def wait_until_begun(self) -> None:
        while not self._log.has_begun:
            await self._wait_for_change()

    async def _wait_for_change(self) -> bool:
        """Wait until something has happened; return whether that is only that a heartbeat is due."""
        self._raise_interruption()
        self._woken = asyncio.get_running_loop().create_future()
        self._log._waiting_readers.add(self)
        try:
            is_for_heartbeat = await self._woken
        finally:
            self._log._waiting_readers.discard(self)
        self._raise_interruption()
        return is_for_heartbeat

    def _raise_interruption(self) -> None:
        if self._error:
            raise self._error
