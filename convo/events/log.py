"""The live log of a running turn: one writer, any number of readers that come and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

E = TypeVar("E")


# So many deltas are given at once: a reader that is slow takes them in one after the other.
MOST_AT_ONCE = 256


class Log(Generic[E]):
    """What a reply has said so far, delta by delta, and how it ended. Lives on one event loop."""

    def __init__(self) -> None:
        self.deltas: list[str] = []
        self.ending: E | None = None
        # Ends the writing; set by whoever writes.
        self.stop: Callable[[], None] = lambda: None
        self._readers: set[asyncio.Future[None]] = set()

    def say(self, *deltas: str) -> None:
        """Add pieces of the reply and wake whoever waits for them."""
        self.deltas.extend(deltas)
        self._wake()

    def end(self, ending: E) -> None:
        """Close the log: the readers finish with this."""
        self.ending = ending
        self._wake()

    async def follow(self, *, after: int = 0, beat: float) -> AsyncIterator[list[str]]:
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
