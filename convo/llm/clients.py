"""The client of the model server: one per event loop, so that connections are reused."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient

from convo.conf import conf

OPENAI_URL = "https://api.openai.com/v1"

Key = tuple[asyncio.AbstractEventLoop, str, str]
_clients: dict[Key, tuple[AsyncOpenAI, AsyncGenerator[None, None]]] = {}


async def client() -> AsyncOpenAI:
    """Return this event loop's client for the configured server; it is closed when the loop ends."""
    api_key, base_url = conf().openai_api_key or "none", conf().openai_base_url or OPENAI_URL
    key = (asyncio.get_running_loop(), api_key, base_url)
    if key not in _clients:
        new_client = _create_client(api_key, base_url)
        closer = _close_with_loop(key, new_client)
        _clients[key] = new_client, closer
        await anext(closer)
    return _clients[key][0]


def _create_client(api_key: str, base_url: str) -> AsyncOpenAI:
    # `Deadlines` limits the time to read. Idle connections are closed before the 5 s after which common
    # servers close them: a request on a connection that is just closing would fail.
    timeout = httpx2.Timeout(None, connect=conf().connect_seconds)
    limits = httpx2.Limits(max_connections=1000, keepalive_expiry=4)
    transport = DefaultAioHttpClient(timeout=timeout, limits=limits)
    return AsyncOpenAI(
        api_key=api_key, base_url=base_url, max_retries=0, timeout=timeout, http_client=transport
    )


async def _close_with_loop(key: Key, new_client: AsyncOpenAI) -> AsyncGenerator[None, None]:
    """Close the client with its loop: a loop that ends closes the async generators started in it."""
    try:
        yield
    finally:
        del _clients[key]
        await new_client.close()
