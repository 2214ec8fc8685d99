"""Following a turn that another process runs: one reader of Redis per process, and the rows beneath it."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from django.db import Error
from redis.asyncio import Redis

from convo import database
from convo.conf import conf
from convo.errors import Unavailable
from convo.events.log import Delta, Log
from convo.events.mirror import FAILURES, cancelled, connect, read_entry, stream_of
from convo.events.saved import Saved, saved

logger = logging.getLogger(__name__)

BLOCK_MS = 100
# How a log ends whose turn another process ran: the rows say the rest.
ENDED_ELSEWHERE = object()

Logs = WeakValueDictionary[UUID, Log[Any]]

# By event loop, because a log wakes only readers of its own.
_own: WeakKeyDictionary[asyncio.AbstractEventLoop, Logs] = WeakKeyDictionary()
_followers: WeakKeyDictionary[asyncio.AbstractEventLoop, "Follower"] = WeakKeyDictionary()


def register(key: UUID, log: Log[Any]) -> None:
    """Let the readers on this event loop find the log that is written on it."""
    _own.setdefault(asyncio.get_running_loop(), WeakValueDictionary())[key] = log


async def log_of(key: UUID) -> Log[Any]:
    """The log of a turn, wherever it runs or ran. It is fed for as long as somebody holds it."""
    loop = asyncio.get_running_loop()
    if loop in _own and (own := _own[loop].get(key)):
        return own
    return await _followers.setdefault(loop, Follower()).follow(key)


class _Feed:
    """What feeds one copied log, which is held by its readers alone."""

    def __init__(self, key: UUID, log: Log[Any]) -> None:
        self.key = key
        self.log = ref(log)
        self.last_id = "0"
        self.look_up_at = 0.0
        # Batches that came before what lies between; the rows will have that soon.
        self._ahead: deque[tuple[int, list[Delta]]] = deque()

    def hear(self, fields: Mapping[str, str]) -> None:
        """Take in what Redis has; of the end the rows know more, as of everything that makes no sense."""
        try:
            at, deltas, ended = read_entry(fields)
        except (KeyError, ValueError, TypeError):
            ended = True
        else:
            self._ahead.append((at, deltas))
            self._take()
        if ended:
            self.look_up_at = 0.0

    def learn(self, rows: Saved) -> None:
        """Take in what the rows have."""
        self._ahead.appendleft((0, rows.deltas))
        self._take()
        if rows.ended and (log := self.log()):
            log.end(ENDED_ELSEWHERE)

    def _take(self) -> None:
        log = self.log()
        while log and self._ahead and self._ahead[0][0] <= len(log.deltas):
            at, deltas = self._ahead.popleft()
            if new := deltas[len(log.deltas) - at :]:
                log.say(*new)
                self.wait()

    def wait(self) -> None:
        """Ask the rows when nothing has come for a while."""
        self.look_up_at = time.monotonic() + conf().follow_seconds

    @property
    def over(self) -> bool:
        log = self.log()
        return log is None or log.ending is not None


class Follower:
    """One event loop's copies of logs that others write: fed by Redis, and by the rows when it is silent."""

    def __init__(self) -> None:
        self._logs: Logs = WeakValueDictionary()
        self._feeds: dict[UUID, _Feed] = {}
        self._feeding: asyncio.Task[None] | None = None

    async def follow(self, key: UUID) -> Log[Any]:
        if known := self._logs.get(key):
            return known
        log: Log[Any] = Log()
        self._logs[key], feed = log, _Feed(key, log)
        try:
            await self._look_up([feed])
        finally:
            # Also where this reader was cancelled: another one may hold the log by now.
            if log.ending is None:
                self._add(feed)
        return log

    def _add(self, feed: _Feed) -> None:
        self._feeds[feed.key] = feed
        if self._feeding is None:
            self._feeding = asyncio.create_task(self._feed())

    async def _feed(self) -> None:
        redis = connect() if conf().redis_url else None
        try:
            while self._feeds and not cancelled():
                await self._listen(redis)
                now = time.monotonic()
                await self._look_up([feed for feed in self._feeds.values() if feed.look_up_at <= now])
                self._feeds = {key: feed for key, feed in self._feeds.items() if not feed.over}
        finally:
            # An ended task would hold its event loop, and this its key in _followers, for ever.
            self._feeding = None
            if redis:
                await redis.aclose()

    async def _listen(self, redis: Redis | None) -> None:
        """Hear what Redis has for all of them at once."""
        if redis is None:
            await asyncio.sleep(conf().follow_seconds)
            return
        feeds = {stream_of(feed.key): feed for feed in self._feeds.values()}
        places: dict[Any, Any] = {stream: feed.last_id for stream, feed in feeds.items()}
        try:
            heard: Any = await redis.xread(places, block=BLOCK_MS)
        except FAILURES as error:
            logger.warning("live events not heard: %s", type(error).__name__)
            await asyncio.sleep(conf().follow_seconds)
            return
        for stream, entries in heard:
            for feeds[stream].last_id, fields in entries:
                feeds[stream].hear(fields)

    async def _look_up(self, feeds: list[_Feed]) -> None:
        """Let them take what the rows have, which know best whether a turn has ended."""
        for feed in feeds:
            feed.wait()
        try:
            rows = await database.run(saved, [feed.key for feed in feeds]) if feeds else {}
        except (Error, Unavailable) as error:
            logger.warning("saved events not read: %s", type(error).__name__)
            return
        for feed in feeds:
            feed.learn(rows[feed.key])
