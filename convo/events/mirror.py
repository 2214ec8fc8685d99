"""Copy this process's logs to Redis, in batches every few hundredths of a second, for readers elsewhere."""

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.typing import EncodableT, FieldT

from convo.conf import conf
from convo.events.log import Delta, E, Log

logger = logging.getLogger(__name__)

# After a failure Redis is left alone for this long; readers follow the database meanwhile.
REST_SECONDS = 2.0
# An idle connection is kept for this long, so that not every reply opens one.
IDLE_SECONDS = 60.0
# Redis keeps at most this many batches of a reply; a reader that misses the first ones asks the database.
MAX_BATCHES = 5000
# A ValueError means that the data in Redis is not even text.
REDIS_ERRORS = (RedisError, OSError, ValueError)

_mirrors: WeakKeyDictionary[asyncio.AbstractEventLoop, "Mirror"] = WeakKeyDictionary()


def connect() -> Redis:
    """Return a Redis client for this event loop that fails quickly and never retries."""
    return Redis.from_url(
        conf().redis_url,
        socket_connect_timeout=0.2,
        socket_timeout=1.0,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def is_cancelled() -> bool:
    """Return whether this task was cancelled: up to Python 3.11 the Redis client sometimes swallows that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def wait_for_work(added: asyncio.Event) -> None:
    """Wait until something is added, or until a connection has been idle long enough to be closed."""
    added.clear()
    with suppress(TimeoutError):
        async with asyncio.timeout(IDLE_SECONDS):
            await added.wait()


def stream_of(key: UUID) -> str:
    return f"convo:events:{key.hex}"


def read_entry(fields: Mapping[str, str]) -> tuple[int, list[Delta], bool]:
    """Return the index of a batch's first delta, its deltas, and whether it is the last batch."""
    return (
        int(fields["at"]),
        [_parse_delta(*row) for row in json.loads(fields["deltas"])],
        fields["ended"] == "1",
    )


def _parse_delta(item: object, kind: object, text: object, call_id: object, name: object) -> Delta:
    return Delta(int(str(item)), str(kind), str(text), str(call_id), str(name))


def mirror(key: UUID, log: Log[E]) -> None:
    """Copy this log to Redis from now on, if Redis is configured."""
    if conf().redis_url:
        _mirrors.setdefault(asyncio.get_running_loop(), Mirror()).add(key, log)


@dataclass
class _Copy:
    """A log, and how many of its deltas Redis has."""

    key: UUID
    log: Log[Any]
    sent_count: int = 0

    @property
    def is_behind(self) -> bool:
        return self.log.ending is not None or len(self.log.deltas) > self.sent_count

    def entry(self) -> dict[FieldT, EncodableT]:
        deltas = self.log.deltas[self.sent_count :]
        return {
            "at": self.sent_count,
            "deltas": json.dumps(deltas),
            "ended": int(self.log.ending is not None),
        }


class Mirror:
    """The logs of one event loop that are sent to Redis, all in one pipeline.

    The connection stays open while there are logs, and for IDLE_SECONDS after that.
    """

    def __init__(self) -> None:
        self._copies: dict[UUID, _Copy] = {}
        self._copy_added = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, key: UUID, log: Log[E]) -> None:
        self._copies[key] = _Copy(key, log)
        self._copy_added.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        async with connect() as redis:
            try:
                while not is_cancelled():
                    if not self._copies:
                        await wait_for_work(self._copy_added)
                    if not self._copies:
                        break
                    await asyncio.sleep(conf().mirror_seconds)
                    await self._send_or_rest(redis)
            finally:
                # A task that has ended would hold its event loop for ever, and with it this loop's entry in
                # _mirrors.
                self._task = None

    async def _send_or_rest(self, redis: Redis) -> None:
        try:
            await self._send(redis)
        except REDIS_ERRORS as error:
            logger.warning("live events could not be copied to Redis: %s", type(error).__name__)
            # Logs that ended while Redis was away are in the database.
            self._copies = {key: copy for key, copy in self._copies.items() if copy.log.ending is None}
            await asyncio.sleep(REST_SECONDS)

    async def _send(self, redis: Redis) -> None:
        copies = [copy for copy in self._copies.values() if copy.is_behind]
        if not copies:
            return
        states = [(len(copy.log.deltas), copy.log.ending is not None) for copy in copies]
        pipeline = redis.pipeline(transaction=False)
        for copy in copies:
            pipeline.xadd(stream_of(copy.key), copy.entry(), maxlen=MAX_BATCHES, approximate=True)
            pipeline.expire(stream_of(copy.key), conf().events_seconds)
        outcomes = await pipeline.execute(raise_on_error=False)
        for copy, (copy.sent_count, has_ended), outcome in zip(copies, states, outcomes[::2], strict=True):
            # Redis may be full, or hold something else under this key: readers then follow the database.
            if has_ended or isinstance(outcome, RedisError):
                del self._copies[copy.key]
