"""The client of the model server: one per event loop, so that connections are used again."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient

from convo.conf import conf

OPENAI_URL = "https://api.openai.com/v1"

Key = tuple[asyncio.AbstractEventLoop, str, str]
_clients: dict[Key, tuple[AsyncOpenAI, AsyncGenerator[None, None]]] = {}


async def client() -> AsyncOpenAI:
    """This event loop's client for the configured server; it is closed when the loop ends."""
    api_key, base_url = conf().openai_api_key or "none", conf().openai_base_url or OPENAI_URL
    key = (asyncio.get_running_loop(), api_key, base_url)
    if key not in _clients:
        made = _made(api_key, base_url)
        closing = _closes_with_its_loop(key, made)
        _clients[key] = made, closing
        await anext(closing)
    return _clients[key][0]


def _made(api_key: str, base_url: str) -> AsyncOpenAI:
    # `deadlines` watches the reading. Idle connections are given up before the 5 s after which common
    # servers close them: a request sent into a connection that is just closing would fail.
    timeout = httpx2.Timeout(None, connect=conf().connect_seconds)
    limits = httpx2.Limits(max_connections=1000, keepalive_expiry=4)
    transport = DefaultAioHttpClient(timeout=timeout, limits=limits)
    return AsyncOpenAI(
        api_key=api_key, base_url=base_url, max_retries=0, timeout=timeout, http_client=transport
    )


async def _closes_with_its_loop(key: Key, made: AsyncOpenAI) -> AsyncGenerator[None, None]:
    """A loop that ends closes the generators begun in it, and with this one its client."""
    try:
        yield
    finally:
        del _clients[key]
        await made.close()
