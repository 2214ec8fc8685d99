"""The hot copy of a transcript's newest lines. Its key names their version, so it can't be stale."""

import json
import logging
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any
from uuid import UUID

import redis
from django.core.cache import cache

from convo.conf import conf
from convo.history.lines import Line

logger = logging.getLogger(__name__)

SCHEMA = 2
LENGTH = 64  # lines: a window of ten pairs, tool calls included, and its next few turns
REST_SECONDS = 3.0
AWAY = (redis.ConnectionError, redis.TimeoutError, OSError)
# A window that is read after this share of its time is kept anew; before it, a read costs one round trip.
RENEWED_AFTER = 0.1


class Resting(Exception):
    """The cache failed a moment ago and is left alone."""


class Breaker:
    """Keeps callers away from a cache that failed; later one at a time tries whether it is back."""

    def __init__(self, *, rest_seconds: float) -> None:
        self._rest_seconds = rest_seconds
        self._resting_until = 0.0

    def __enter__(self) -> None:
        now = time.monotonic()
        if now < self._resting_until:
            raise Resting
        if self._resting_until:
            # This caller tries; nobody else is to wait for what it finds.
            self._resting_until = now + self._rest_seconds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resting_until = time.monotonic() + self._rest_seconds if isinstance(error, AWAY) else 0.0


# While Redis is away the database answers: a second cache, in the process, would be one more to keep right.
_breaker = Breaker(rest_seconds=REST_SECONDS)


def load(session_id: UUID, version: tuple[int, int]) -> list[Line] | None:
    """The newest lines of this version of the transcript, oldest first, or None when they aren't at hand."""
    key = _key(session_id, version)
    try:
        with _breaker:
            kept = cache.get(key)
        if kept is None:
            return None
        lines = _unpacked(kept, _name(session_id, version))
        age = time.time() - kept["kept_at"]
    except Resting:
        return None
    except Exception as error:  # a border: whatever is wrong with the cache, the database has the lines
        logger.warning("hot window not usable: %s", type(error).__name__)
        _drop(key)
        return None
    if not 0 <= age < conf().window_seconds * RENEWED_AFTER:
        store(session_id, version, lines)
    return lines


def store(session_id: UUID, version: tuple[int, int], lines: Sequence[Line]) -> None:
    """Keep the newest lines of this version for the next turn."""
    packed = _packed(lines[-LENGTH:], _name(session_id, version))
    try:
        with _breaker:
            cache.set(_key(session_id, version), packed, conf().window_seconds)
    except Resting:
        return
    except Exception as error:  # a border: a window that wasn't kept is read from the database
        logger.warning("hot window not kept: %s", type(error).__name__)


def _drop(key: str) -> None:
    # A border. Where it was the cache that failed, not the value, it rests now and this asks nothing.
    with suppress(Exception), _breaker:
        cache.delete(key)


def _packed(lines: Sequence[Line], name: list[Any]) -> dict[str, Any]:
    text = json.dumps([asdict(line) for line in lines], ensure_ascii=False)
    return {"name": name, "kept_at": time.time(), "lines": text, "sum": zlib.crc32(text.encode())}


def _unpacked(kept: Any, name: list[Any]) -> list[Line]:
    if kept["name"] != name:
        raise ValueError("another transcript's lines")
    if kept["sum"] != zlib.crc32(kept["lines"].encode()):
        raise ValueError("damaged lines")
    return [Line(**line) for line in json.loads(kept["lines"])]


def _name(session_id: UUID, version: tuple[int, int]) -> list[Any]:
    return [SCHEMA, str(session_id), *version]


def _key(session_id: UUID, version: tuple[int, int]) -> str:
    return "convo:window:" + ":".join(map(str, _name(session_id, version)))
