"""The live log of a running turn: one writer, any number of readers that come and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, NamedTuple, TypeVar

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
    """Return the delta of an item at this index."""
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
        self._readers: set[asyncio.Future[None]] = set()

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

    async def follow(self, *, heartbeat_seconds: float) -> AsyncIterator[list[Delta]]:
        """Yield all deltas in batches; an empty one as a heartbeat."""
        start = 0
        while True:
            batch = self.deltas[start : start + MAX_BATCH_SIZE]
            start += len(batch)
            if batch:
                yield batch
            elif self.ending is not None:
                return
            elif not await self._wait_for_change(heartbeat_seconds):
                yield []

    async def wait_until_ended(self) -> E:
        """Wait for the end of the log and return its ending."""
        while self.ending is None:
            await self._wait_for_change(None)
        return self.ending

    async def wait_until_begun(self) -> None:
        """Wait until the model server has accepted the question, or the reply has ended without that."""
        while not (self._is_accepted or self.deltas or self.ending is not None):
            await self._wait_for_change(None)

    async def _wait_for_change(self, seconds: float | None) -> bool:
        reader = asyncio.get_running_loop().create_future()
        self._readers.add(reader)
        try:
            # wait_for is not used: up to Python 3.11 it loses the cancellation of a reader that is just being
            # woken.
            async with asyncio.timeout(seconds):
                await reader
        except TimeoutError:
            return False
        finally:
            self._readers.discard(reader)
        return True

    def _wake_readers(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
