"""The model server: one set of connections per event loop, so that they are reused."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
import openai
from openai import AsyncOpenAI, DefaultAioHttpClient

from convo.conf import conf

OPENAI_URL = "https://api.openai.com/v1"
# Idle connections are closed before the 5 s after which common servers close them: a request on a connection
# that is just closing would fail.
KEEPALIVE_SECONDS = 4
# Some servers repeat the prompt in an error, before its code.
MAX_ERROR_BYTES = 1_000_000

Key = tuple[asyncio.AbstractEventLoop, str, str]


@dataclass(frozen=True)
class ModelServer:
    """The configured model server, as one event loop reaches it.

    Chat completions are streamed over `session`, without the client's layers: they take .5 ms of CPU per
    reply, and 16 µs more per chunk. `client` does everything else. Both raise the client's errors.
    """

    client: AsyncOpenAI
    session: aiohttp.ClientSession
    headers: Mapping[str, str]
    base_url: str  # as the client writes it, which takes 30 µs each time

    async def post(self, path: str, body: Mapping[str, object]) -> aiohttp.ClientResponse:
        """Return the response, its body still unread."""
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            response = await self.session.post(f"{self.base_url}{path}", data=data, headers=self.headers)
            if response.status >= 400:
                raise self._status_error(path, response, await _error_text(response))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise openai.APIConnectionError(request=self._failed_request(path)) from error
        return response

    def _status_error(self, path: str, response: aiohttp.ClientResponse, text: str) -> openai.APIStatusError:
        failed_response = httpx2.Response(
            response.status,
            headers=list(response.raw_headers),
            request=self._failed_request(path),
        )
        try:
            body = json.loads(text)
        except ValueError:
            body = text
        error_class = openai.RateLimitError if response.status == 429 else openai.APIStatusError
        return error_class("The model server refused the request.", response=failed_response, body=body)

    def _failed_request(self, path: str) -> httpx2.Request:
        return httpx2.Request("POST", f"{self.base_url}{path}")


async def _error_text(response: aiohttp.ClientResponse) -> str:
    text = b""
    # The status alone says what to do, so a body that breaks off counts as far as it came.
    with suppress(aiohttp.ClientError, TimeoutError):
        while len(text) < MAX_ERROR_BYTES and (chunk := await response.content.readany()):
            text += chunk
    # A connection whose response was read to its end serves others already.
    response.close()
    return text[:MAX_ERROR_BYTES].decode(errors="replace")


_servers: dict[Key, tuple[ModelServer, AsyncGenerator[None, None]]] = {}


async def model_server() -> ModelServer:
    """Return this event loop's connections to the configured server; they are closed when the loop ends."""
    api_key, base_url = conf().openai_api_key or "none", conf().openai_base_url or OPENAI_URL
    key = (asyncio.get_running_loop(), api_key, base_url)
    if key not in _servers:
        server = _create_server(api_key, base_url)
        closer = _close_with_loop(key, server)
        _servers[key] = server, closer
        await anext(closer)
    return _servers[key][0]


def _create_server(api_key: str, base_url: str) -> ModelServer:
    # `Deadlines` limits the time to read.
    timeout = httpx2.Timeout(None, connect=conf().connect_seconds)
    limits = httpx2.Limits(max_connections=1000, keepalive_expiry=KEEPALIVE_SECONDS)
    transport = DefaultAioHttpClient(timeout=timeout, limits=limits)
    client = AsyncOpenAI(
        api_key=api_key, base_url=base_url, max_retries=0, timeout=timeout, http_client=transport
    )
    headers = {**client.default_headers, **client.auth_headers}
    session = aiohttp.ClientSession(
        connector=_connector(base_url),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=conf().connect_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=_proxy(base_url),
    )
    # The client marks headers that it leaves out. Headers of the session would go to a proxy as well.
    sent_headers = {name: value for name, value in headers.items() if isinstance(value, str)}
    return ModelServer(client, session, sent_headers, str(client.base_url))


def _connector(base_url: str) -> aiohttp.TCPConnector:
    # Both kinds of requests trust the same certificates. Reading them takes 10 ms, so only if they are used.
    ssl = httpx2.create_ssl_context() if base_url.startswith("https:") else True
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ssl=ssl)


def _proxy(base_url: str) -> str | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name for this server."""
    parts, proxies = urlsplit(base_url), getproxies()
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


async def _close_with_loop(key: Key, server: ModelServer) -> AsyncGenerator[None, None]:
    """Close the connections with their loop: a loop that ends closes the async generators started in it."""
    try:
        yield
    finally:
        del _servers[key]
        await server.session.close()
        await server.client.close()
