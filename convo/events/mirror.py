"""The logs of this process in Redis, a batch every few hundredths of a second, for readers in others."""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from convo.conf import conf
from convo.events.log import Delta, Log

logger = logging.getLogger(__name__)

# After a failure Redis is left alone this long; readers follow the database meanwhile.
REST_SECONDS = 2.0
# So many batches are kept of one reply; a reader that finds the beginning gone asks the database.
MOST_BATCHES = 5000
# ValueError: what Redis holds is not even text.
FAILURES = (RedisError, OSError, ValueError)

_mirrors: WeakKeyDictionary[asyncio.AbstractEventLoop, "Mirror"] = WeakKeyDictionary()


def connect() -> Redis:
    """A connection to Redis for this event loop: quick to fail, and with no retry of its own."""
    return Redis.from_url(
        conf().redis_url,
        socket_connect_timeout=0.2,
        socket_timeout=1.0,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def cancelled() -> bool:
    """Was this task cancelled? Up to Python 3.11 the client of Redis swallows that now and then."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def stream_of(key: UUID) -> str:
    return f"convo:events:{key.hex}"


def read_entry(fields: Mapping[str, str]) -> tuple[int, list[Delta], bool]:
    """Where a batch begins, its deltas, and whether it is the last."""
    return int(fields["at"]), [_delta(*row) for row in json.loads(fields["deltas"])], fields["ended"] == "1"


def _delta(item: object, kind: object, text: object, call_id: object, name: object) -> Delta:
    return Delta(int(str(item)), str(kind), str(text), str(call_id), str(name))


def mirror(key: UUID, log: Log[Any]) -> None:
    """Copy this log to Redis from now on, where there is one."""
    if conf().redis_url:
        _mirrors.setdefault(asyncio.get_running_loop(), Mirror()).add(key, log)


@dataclass
class _Copy:
    """How much of a log is in Redis."""

    key: UUID
    log: Log[Any]
    sent: int = 0

    @property
    def behind(self) -> bool:
        return self.log.ending is not None or len(self.log.deltas) > self.sent

    def entry(self) -> dict[Any, Any]:
        deltas = self.log.deltas[self.sent :]
        return {"at": self.sent, "deltas": json.dumps(deltas), "ended": int(self.log.ending is not None)}


class Mirror:
    """One event loop's logs on their way to Redis, in one pipeline; connected while there are any."""

    def __init__(self) -> None:
        self._copies: dict[UUID, _Copy] = {}
        self._copying: asyncio.Task[None] | None = None

    def add(self, key: UUID, log: Log[Any]) -> None:
        self._copies[key] = _Copy(key, log)
        if self._copying is None:
            self._copying = asyncio.create_task(self._copy())

    async def _copy(self) -> None:
        async with connect() as redis:
            try:
                while self._copies and not cancelled():
                    await asyncio.sleep(conf().mirror_seconds)
                    await self._send_or_rest(redis)
            finally:
                # An ended task would hold its event loop, and this its key in _mirrors, for ever.
                self._copying = None

    async def _send_or_rest(self, redis: Redis) -> None:
        try:
            await self._send(redis)
        except FAILURES as error:
            logger.warning("live events not mirrored: %s", type(error).__name__)
            # What ended while Redis was away is in the database.
            self._copies = {key: copy for key, copy in self._copies.items() if copy.log.ending is None}
            await asyncio.sleep(REST_SECONDS)

    async def _send(self, redis: Redis) -> None:
        news = [copy for copy in self._copies.values() if copy.behind]
        if not news:
            return
        reached = [(len(copy.log.deltas), copy.log.ending is not None) for copy in news]
        pipeline = redis.pipeline(transaction=False)
        for copy in news:
            pipeline.xadd(stream_of(copy.key), copy.entry(), maxlen=MOST_BATCHES, approximate=True)
            pipeline.expire(stream_of(copy.key), conf().events_seconds)
        outcomes = await pipeline.execute(raise_on_error=False)
        for copy, (copy.sent, ended), outcome in zip(news, reached, outcomes[::2], strict=True):
            # Redis may be full, or hold something else under this key: such a log is followed by its rows.
            if ended or isinstance(outcome, RedisError):
                del self._copies[copy.key]
