"""Readers that follow a reply, on any server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2


def frames(response: httpx2.Response) -> Iterator[bytes]:
    """The events of this response byte by byte as they were sent; heartbeats aside."""
    rest = b""
    for piece in response.iter_raw():
        *whole, rest = (rest + piece).split(b"\n\n")
        yield from (frame for frame in whole if frame != b": hb")
    assert rest == b""


@contextmanager
def asking(client: httpx2.Client, session: str, **fields: Any) -> Iterator[Iterator[bytes]]:
    body = {"message": "hello", "stream": True, **fields}
    with client.stream("POST", f"/api/v1/sessions/{session}/query/", json=body) as response:
        assert response.status_code == 200, response.read()
        yield frames(response)


@contextmanager
def following(
    client: httpx2.Client, session: str, *, after: int | None = None, last_id: int | None = None
) -> Iterator[Iterator[bytes]]:
    """The events of the session's first turn, behind the one named in the query or by Last-Event-ID."""
    query = "" if after is None else f"?after={after}"
    headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
    path = f"/api/v1/sessions/{session}/turns/1/events/{query}"
    with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, response.read()
        yield frames(response)


def take(arriving: Iterator[bytes], count: int) -> list[bytes]:
    return [next(arriving) for _ in range(count)]


def names(found: list[bytes]) -> list[bytes]:
    return [frame.split(b"\n")[1].removeprefix(b"event: ") for frame in found]
