"""Send requests to a model server: once more if that helps, and not at all while the server is down."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import openai

from convo.breaker import Breaker, BreakerOpen
from convo.errors import UpstreamUnavailable
from convo.llm.failures import retry_after, timed_out

T = TypeVar("T")

# A rate limit that ends within this time is waited for; a longer one is passed on to the caller.
MAX_RETRY_DELAY_SECONDS = 2.0
RECONNECT_SECONDS = 0.1
# After this many failed connections in a row, the server gets no requests for REST_SECONDS.
MAX_FAILURES = 5
REST_SECONDS = 5.0


# Each server has one breaker, under its base URL.
_breakers: defaultdict[str, Breaker] = defaultdict(
    lambda: Breaker(
        open_seconds=REST_SECONDS, failure_types=(openai.APIConnectionError,), failure_threshold=MAX_FAILURES
    )
)


async def send_with_retry(base_url: str, send: Callable[[], Awaitable[T]]) -> T:
    """Return the answer to this request, which may be sent twice, as no answer has been received yet."""
    try:
        with _breakers[base_url]:
            return await _send_at_most_twice(send)
    except BreakerOpen as error:
        raise UpstreamUnavailable(retry_after=error.retry_after) from None


async def _send_at_most_twice(send: Callable[[], Awaitable[T]]) -> T:
    try:
        return await send()
    except (openai.RateLimitError, openai.APIConnectionError) as error:
        delay = _retry_delay(error)
        if delay is None:
            raise
    await asyncio.sleep(delay)
    return await send()


def _retry_delay(error: openai.APIError) -> float | None:
    """Return the seconds after which the same request may well succeed, or None if it won't."""
    if isinstance(error, openai.APIStatusError):
        delay = retry_after(error)
        return delay if delay is not None and delay <= MAX_RETRY_DELAY_SECONDS else None
    return None if timed_out(error) else RECONNECT_SECONDS
