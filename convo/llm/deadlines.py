"""The deadlines of one reply, and its body read within them."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

import aiohttp

from convo.alarm import Alarm
from convo.conf import conf
from convo.errors import ConvoError, ReplyTruncated, UpstreamTimeout

DRAIN_SECONDS = 0.1

T = TypeVar("T")


class Deadlines:
    """The deadlines of one reply. They run only while we wait for the server, never for a slow reader."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._chunk_seconds = conf().between_chunks_seconds
        self._final_deadline = self._clock() + conf().total_seconds
        self._first_deadline = min(self._clock() + conf().first_byte_seconds, self._final_deadline)
        self._has_started = False

    def start_reply(self) -> None:
        """Note that the server has begun its answer: from now on the limit between two chunks applies."""
        self._has_started = True

    def next(self) -> float:
        if not self._has_started:
            return self._first_deadline
        return min(self._clock() + self._chunk_seconds, self._final_deadline)

    def error(self) -> ConvoError:
        """Return the error of a server that was too slow, or that still writes after the total time."""
        if self._has_started and self._clock() >= self._final_deadline:
            return ReplyTruncated("The model's answer took longer than CONVO_TOTAL_SECONDS.")
        return UpstreamTimeout()

    async def wait_for(self, awaitable: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(self.next()):
                return await awaitable
        except TimeoutError as error:
            raise self.error() from error


class Body:
    """The body of a response. Leaving the context closes the connection, unless the body was read to its end.

    A server that misses a deadline is cut off: with one alarm for all chunks of the reply, as a timeout for
    each of them takes more CPU than reading it.
    """

    def __init__(self, response: aiohttp.ClientResponse, deadlines: Deadlines) -> None:
        self._response = response
        self._deadlines = deadlines
        self._alarm = Alarm(self._cut_off)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarm.close()
        self._response.close()

    async def read(self) -> bytes:
        """Return the bytes that have arrived, as soon as there are any; none at the end."""
        self._alarm.set(self._deadlines.next())
        try:
            return await self._response.content.readany()
        finally:
            self._alarm.pause()

    async def drain(self) -> None:
        """Read the few bytes after a whole reply, so that its connection can serve the next one.

        A failure here costs only the connection, as the reply is complete.
        """
        if self._response.content.at_eof():
            return
        with suppress(Exception):
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._response.content.readany():
                    pass

    def _cut_off(self) -> None:
        self._response.content.set_exception(self._deadlines.error())
        self._response.close()
