"""The live log of a running turn: one writer, any number of readers that come and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, NamedTuple, TypeVar

from convo.models import Strand

E = TypeVar("E")


# So many deltas are given at once: a reader that is slow takes them in one after the other.
MOST_AT_ONCE = 256


class Delta(NamedTuple):
    """The next piece of one of a reply's items; of a call the first one bears id and name."""

    item: int
    kind: str
    text: str
    call_id: str = ""
    name: str = ""


def delta_of(strand: Strand, at: int) -> Delta:
    """The piece of an item at this place as a log has it."""
    called = (strand.call_id, strand.name) if at == 0 else ("", "")
    return Delta(strand.index, strand.kind, strand.parts[at], *called)


class Log(Generic[E]):
    """What a reply has said so far, delta by delta, and how it ended. Lives on one event loop."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.ending: E | None = None
        self._opened = False
        # Ends the writing; set by whoever writes.
        self.stop: Callable[[], None] = lambda: None
        self._readers: set[asyncio.Future[None]] = set()

    def open(self) -> None:
        """Note that the model server has taken the question."""
        self._opened = True
        self._wake()

    def say(self, *deltas: Delta) -> None:
        """Add pieces of the reply and wake whoever waits for them."""
        self.deltas.extend(deltas)
        self._wake()

    def end(self, ending: E) -> None:
        """Close the log: the readers finish with this."""
        self.ending = ending
        self._wake()

    async def follow(self, *, after: int = 0, beat: float) -> AsyncIterator[list[Delta]]:
        """The deltas behind the first `after`, in batches as they come; after a silent beat an empty one."""
        while True:
            batch = self.deltas[after : after + MOST_AT_ONCE]
            after += len(batch)
            if batch:
                yield batch
            elif self.ending is not None:
                return
            elif not await self._changed(beat):
                yield []

    async def ended(self) -> E:
        """How it ended, once it has."""
        while self.ending is None:
            await self._changed(None)
        return self.ending

    async def begun(self) -> None:
        """Wait until the model server has taken the question, or the reply has ended without."""
        while not (self._opened or self.deltas or self.ending is not None):
            await self._changed(None)

    async def _changed(self, seconds: float | None) -> bool:
        reader = asyncio.get_running_loop().create_future()
        self._readers.add(reader)
        try:
            # Not wait_for: up to Python 3.11 it loses the cancellation of a reader that is just being woken.
            async with asyncio.timeout(seconds):
                await reader
        except TimeoutError:
            return False
        finally:
            self._readers.discard(reader)
        return True

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
