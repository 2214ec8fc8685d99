"""Reaching a model server: tried once more where that helps, and not at all while the server is away."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import openai

from convo.errors import UpstreamUnavailable
from convo.llm.failures import retry_after, timed_out

T = TypeVar("T")

# A rate limit that is over sooner is waited for; a longer one is told to the caller.
LONGEST_WAIT_SECONDS = 2.0
RECONNECT_SECONDS = 0.1
# After so many requests in a row that found nobody, the server is left alone for a while.
FAILURES_IN_A_ROW = 5
REST_SECONDS = 5.0


@dataclass
class Breaker:
    """What this process knows of one server: how often in a row it was not there, and until when it rests."""

    failures: int = 0
    rests_until: float = 0.0

    def check(self) -> None:
        left = self.rests_until - time.monotonic()
        if left > 0:
            raise UpstreamUnavailable(retry_after=left)

    def failed(self) -> None:
        self.failures += 1
        # The count is kept: of those who come after the rest, the first that fails begins the next one.
        if self.failures >= FAILURES_IN_A_ROW:
            self.rests_until = time.monotonic() + REST_SECONDS


_breakers: defaultdict[str, Breaker] = defaultdict(Breaker)


async def reached(server: openai.AsyncOpenAI, ask: Callable[[], Awaitable[T]]) -> T:
    """What the server answers to this request, which may be sent twice, for nothing of the answer is here."""
    breaker = _breakers[str(server.base_url)]
    breaker.check()
    try:
        answer = await _at_most_twice(ask)
    except openai.APIConnectionError:
        breaker.failed()
        raise
    except openai.APIStatusError:
        breaker.failures = 0
        raise
    breaker.failures = 0
    return answer


async def _at_most_twice(ask: Callable[[], Awaitable[T]]) -> T:
    try:
        return await ask()
    except (openai.RateLimitError, openai.APIConnectionError) as error:
        wait = _worth_waiting(error)
        if wait is None:
            raise
    await asyncio.sleep(wait)
    return await ask()


def _worth_waiting(error: openai.APIError) -> float | None:
    """The seconds after which the same request may well be answered; None where it may not."""
    if isinstance(error, openai.APIStatusError):
        wait = retry_after(error)
        return wait if wait is not None and wait <= LONGEST_WAIT_SECONDS else None
    return None if timed_out(error) else RECONNECT_SECONDS
