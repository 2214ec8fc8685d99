"""How long a model server may take: until its first words, between its words, and in all."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from convo.conf import conf
from convo.errors import Truncated, UpstreamTimeout

T = TypeVar("T")


class Deadlines:
    """The deadlines of one reply. They run only while we wait for the server, never while a reader thinks.

    A server that is too slow is an UpstreamTimeout; one that keeps writing past the total is Truncated.
    """

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._between = conf().between_chunks_seconds
        self._end = self._clock() + conf().total_seconds
        self._first_words = min(self._clock() + conf().first_byte_seconds, self._end)
        self._speaking = False

    def speaking(self) -> None:
        """The server has begun its answer: from now on only the silence between two chunks counts."""
        self._speaking = True

    async def keep(self, waited_for: Awaitable[T]) -> T:
        until = min(self._clock() + self._between, self._end) if self._speaking else self._first_words
        try:
            async with asyncio.timeout_at(until):
                return await waited_for
        except TimeoutError as error:
            if self._speaking and self._clock() >= self._end:
                raise Truncated("The model's answer took longer than CONVO_TOTAL_SECONDS.") from error
            raise UpstreamTimeout from error
