"""Turns over the REST API, and their streams of events."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.support.rest import QUERY, SESSIONS, ok


def refused(response: Any, status: int) -> str:
    """The code of a refusal that must have this status."""
    return str(ok(response, status)["error"]["code"])


def frames(text: str) -> list[tuple[int, str, Any]]:
    """The events of a stream: id, name and data of each."""
    found = re.findall(r"^id: (\d+)\nevent: (\S+)\ndata: (.*)\n$", text, re.MULTILINE)
    return [(int(id), name, json.loads(data)) for id, name, data in found]


@contextmanager
def streaming(
    client: httpx2.Client, path: str = QUERY, **fields: Any
) -> Iterator[tuple[dict[str, Any], Iterator[str]]]:
    """What turn.started told of a stream whose model has written two words, and the lines that follow."""
    body = {"message": "hello", "stream": True, **fields}
    with client.stream("POST", path, json=body) as response:
        lines = response.iter_lines()
        started = next(line for line in lines if line.startswith("data: "))
        assert next(line for line in lines if "second" in line)
        yield json.loads(started.removeprefix("data: ")), lines


def turn_of(started: dict[str, Any]) -> str:
    """The address of the turn that this event began."""
    return f"{SESSIONS}{started['session']}/turns/{started['turn']['number']}/"
