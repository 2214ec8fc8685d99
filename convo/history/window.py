"""The hot window: a cached copy of the newest messages. Its key names their version, so it can't be stale."""

import json
import logging
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import redis
from django.core.cache import cache

from convo.breaker import Breaker, BreakerOpen
from convo.conf import conf
from convo.history.messages import TranscriptMessage

logger = logging.getLogger(__name__)

# These errors mean that the cache can't be reached; others are answers.
CONNECTION_ERRORS = (redis.ConnectionError, redis.TimeoutError, OSError)
SCHEMA = 4
MAX_MESSAGES = 64  # messages: enough for ten pairs with their tool calls, and for the next few turns
# A larger window is not cached: it would take memory in every process, and reading it keeps Redis busy.
MAX_BYTES = 256_000
REST_SECONDS = 3.0
# The lifetime is renewed only after this share of it has passed: until then, a read costs one round trip.
RENEW_AFTER = 0.1

# The database answers while Redis is down: a second cache, in the process, would be one more to keep right.
_breaker = Breaker(open_seconds=REST_SECONDS, failure_types=CONNECTION_ERRORS)


def load(session_id: UUID, version: tuple[int, int]) -> list[TranscriptMessage] | None:
    """Return the newest messages of this version, oldest first, or None if they aren't cached."""
    key = _key(session_id, version)
    try:
        with _breaker:
            cached = cache.get(key)
        if cached is None:
            return None
        messages = _unpack(cached, _version_name(session_id, version))
        age = time.time() - cached["stored_at"]
    except BreakerOpen:
        return None
    except Exception as error:  # a border: whatever is wrong with the cache, the database has the messages
        logger.warning("hot window not usable: %s", type(error).__name__)
        _drop(key)
        return None
    if not 0 <= age < conf().window_seconds * RENEW_AFTER:
        store(session_id, version, messages)
    return messages


def store(session_id: UUID, version: tuple[int, int], messages: Sequence[TranscriptMessage]) -> None:
    """Cache the newest messages of this version for the next turn, unless they are very long."""
    newest = messages[-MAX_MESSAGES:]
    if sum(len(message.content) for message in newest) > MAX_BYTES:
        # This check avoids packing messages that are known to be too long.
        return
    payload = _pack(newest, _version_name(session_id, version))
    if len(payload["messages"].encode()) > MAX_BYTES:
        return
    try:
        with suppress(BreakerOpen), _breaker:
            cache.set(_key(session_id, version), payload, conf().window_seconds)
    except Exception as error:  # a border: without a cached window, the next turn reads the database
        logger.warning("hot window not stored: %s", type(error).__name__)


def _drop(key: str) -> None:
    # This is a border, too. If the cache failed, not its value, the breaker is open and no call is made.
    with suppress(Exception), _breaker:
        cache.delete(key)


def _pack(messages: Sequence[TranscriptMessage], name: list[Any]) -> dict[str, Any]:
    text = json.dumps(messages, ensure_ascii=False)
    return {"name": name, "stored_at": time.time(), "messages": text, "sum": zlib.crc32(text.encode())}


def _unpack(payload: Any, name: list[Any]) -> list[TranscriptMessage]:
    if payload["name"] != name:
        raise ValueError("messages of another transcript")
    if payload["sum"] != zlib.crc32(payload["messages"].encode()):
        raise ValueError("damaged messages")
    return list(map(TranscriptMessage._make, json.loads(payload["messages"])))


def _version_name(session_id: UUID, version: tuple[int, int]) -> list[Any]:
    return [SCHEMA, str(session_id), *version]


def _key(session_id: UUID, version: tuple[int, int]) -> str:
    return "convo:window:" + ":".join(map(str, _version_name(session_id, version)))
