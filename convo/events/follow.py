"""Follow turns that other processes run: by one Redis reader per event loop, or else by the database."""

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from django.db import Error
from redis.asyncio import Redis
from redis.typing import KeyT, StreamIdT

from convo import database
from convo.conf import conf
from convo.errors import DatabaseUnavailable
from convo.events.log import Delta, E, Log, delta_of
from convo.events.mirror import REDIS_ERRORS, connect, is_cancelled, read_entry, stream_of, wait_for_work
from convo.history import ephemeral, turn_contents
from convo.models import ItemOutline, Message, ReplyItem, Turn, rebuild_items

logger = logging.getLogger(__name__)

BLOCK_MS = 100
# The ending of a log whose turn another process ran. The database has the turn's result.
ENDED_ELSEWHERE = object()

# The logs are kept by event loop, because a log wakes only readers on its own loop.
_local_logs: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[UUID, Log[Any]]] = (
    WeakKeyDictionary()
)
_followers: WeakKeyDictionary[asyncio.AbstractEventLoop, "Follower"] = WeakKeyDictionary()


def register(key: UUID, log: Log[E]) -> None:
    """Make a log that is written on this event loop available to the readers on the same loop."""
    _local_logs.setdefault(asyncio.get_running_loop(), WeakValueDictionary())[key] = log


async def log_of(key: UUID) -> Log[Any]:
    """Return the log of a turn, whichever process runs it; it is updated for as long as somebody holds it."""
    loop = asyncio.get_running_loop()
    local_log = _local_logs[loop].get(key) if loop in _local_logs else None
    # The messages in a log that has ended may have been deleted since.
    if local_log and local_log.ending is None:
        return local_log
    return await _followers.setdefault(loop, Follower()).follow(key)


@dataclass(frozen=True)
class SavedReply:
    """A reply as far as it has been saved, in the same deltas as its live stream."""

    deltas: list[Delta]
    has_ended: bool


def load_saved_replies(keys: Iterable[UUID]) -> dict[UUID, SavedReply]:
    """Return the replies of these turns from the database; a turn whose row is gone has ended."""
    keys = list(keys)
    turns = Turn.objects.filter(key__in=keys).select_related("session")
    turns = turns.only("key", "status", "number", "draft", "chunks", "session__storage")
    turns_by_key = {turn.key: turn for turn in turns}
    texts_by_turn = _item_texts([turn for turn in turns_by_key.values() if turn.has_ended])
    return {key: _saved_reply(turns_by_key.get(key), texts_by_turn) for key in keys}


def _saved_reply(turn: Turn | None, texts_by_turn: dict[int, list[str]]) -> SavedReply:
    if turn is None:
        return SavedReply([], has_ended=True)
    if not turn.has_ended:
        return SavedReply(deltas_of(turn_contents.load_draft_items(turn)), has_ended=False)
    outlines = turn_contents.load_chunks(turn)
    return SavedReply(
        deltas_of(rebuild_items(_replay_texts(outlines, texts_by_turn[turn.pk]), outlines)), has_ended=True
    )


def _replay_texts(outlines: Sequence[ItemOutline], stored_texts: Iterable[str]) -> Iterator[str]:
    """Yield the text of each item: as it is stored, or as it was streamed if the item wasn't kept."""
    remaining_texts = iter(stored_texts)
    for outline in outlines:
        text = outline["lost"] if "lost" in outline else next(remaining_texts, None)
        if text is None:
            # This item was deleted, so neither it nor anything after it is replayed.
            return
        yield text


def _item_texts(turns: list[Turn]) -> dict[int, list[str]]:
    """Return the item texts of each turn's reply, in order."""
    texts_by_turn: dict[int, list[str]] = defaultdict(list)
    if turns:
        rows = Message.objects.filter(turn__in=turns, erased_at=None).exclude(agent="")
        # A compaction was written before the model replied and is not part of the stream.
        rows = rows.exclude(type="compaction")
        # Deleted texts are missing from the replay too; without one item, the lengths of the others don't
        # fit.
        fields = ("session_id", "turn_id", "position", "item_id", "type", "name", "content", "item")
        for row in ephemeral.load_contents(rows.order_by("position").only(*fields), allow_missing=True):
            texts_by_turn[row.turn_id].append(row.reply_text)
    return texts_by_turn


def deltas_of(items: Sequence[ReplyItem]) -> list[Delta]:
    return [delta_of(item, index) for item in items for index in range(len(item.chunks))]


class _Feed:
    """The updates of one copied log, which end when no reader holds the log any more."""

    def __init__(self, key: UUID, log: Log[object]) -> None:
        self.key = key
        self.log_ref = ref(log)
        self.last_id = "0"
        self.next_look_up = 0.0
        # These batches came before others that precede them; the database will soon have what is missing.
        self._early_batches: deque[tuple[int, list[Delta]]] = deque()

    def apply_entry(self, fields: Mapping[str, str]) -> None:
        """Apply an entry from Redis; if it ends the log or can't be read, ask the database next."""
        try:
            start, deltas, has_ended = read_entry(fields)
        except (KeyError, ValueError, TypeError):
            has_ended = True
        else:
            self._early_batches.append((start, deltas))
            self._append_batches()
        if has_ended:
            self.next_look_up = 0.0

    def apply_saved(self, saved_reply: SavedReply) -> None:
        self._early_batches.appendleft((0, saved_reply.deltas))
        self._append_batches()
        if saved_reply.has_ended and (log := self.log_ref()):
            log.close(ENDED_ELSEWHERE)

    def _append_batches(self) -> None:
        log = self.log_ref()
        while log and self._early_batches and self._early_batches[0][0] <= len(log.deltas):
            start, deltas = self._early_batches.popleft()
            if new_deltas := deltas[len(log.deltas) - start :]:
                log.append(*new_deltas)
                self.postpone_look_up()

    def postpone_look_up(self) -> None:
        """Ask the database only after some silence."""
        self.next_look_up = time.monotonic() + conf().follow_seconds

    @property
    def is_over(self) -> bool:
        log = self.log_ref()
        return log is None or log.ending is not None


class Follower:
    """Copies, on one event loop, of logs that other processes write.

    Redis updates them, and the database when Redis is silent.
    """

    def __init__(self) -> None:
        self._logs: WeakValueDictionary[UUID, Log[object]] = WeakValueDictionary()
        self._feeds: dict[UUID, _Feed] = {}
        self._feed_added = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def follow(self, key: UUID) -> Log[object]:
        if existing_log := self._logs.get(key):
            return existing_log
        log: Log[object] = Log()
        self._logs[key], feed = log, _Feed(key, log)
        try:
            await self._read_database([feed])
        finally:
            # This happens also if the reader was cancelled: another one may hold the log by now.
            if log.ending is None:
                self._add(feed)
        return log

    def _add(self, feed: _Feed) -> None:
        self._feeds[feed.key] = feed
        self._feed_added.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        redis = connect() if conf().redis_url else None
        try:
            while not is_cancelled():
                if not self._feeds and redis:
                    await wait_for_work(self._feed_added)
                if not self._feeds:
                    break
                await self._read_redis(redis)
                now = time.monotonic()
                await self._read_database([feed for feed in self._feeds.values() if feed.next_look_up <= now])
                self._feeds = {key: feed for key, feed in self._feeds.items() if not feed.is_over}
        finally:
            # A task that has ended would hold its event loop for ever, and with it this loop's entry in
            # _followers.
            self._task = None
            if redis:
                await redis.aclose()

    async def _read_redis(self, redis: Redis | None) -> None:
        if redis is None:
            await asyncio.sleep(conf().follow_seconds)
            return
        feeds = {stream_of(feed.key): feed for feed in self._feeds.values()}
        last_ids: dict[KeyT, StreamIdT] = {stream: feed.last_id for stream, feed in feeds.items()}
        try:
            responses: Any = await redis.xread(last_ids, block=BLOCK_MS)
        except REDIS_ERRORS as error:
            logger.warning("live events could not be read: %s", type(error).__name__)
            await asyncio.sleep(conf().follow_seconds)
            return
        for stream, entries in responses:
            for feeds[stream].last_id, fields in entries:
                feeds[stream].apply_entry(fields)

    async def _read_database(self, feeds: list[_Feed]) -> None:
        """Update these logs from the database, which knows best whether a turn has ended."""
        for feed in feeds:
            feed.postpone_look_up()
        try:
            saved_replies = (
                await database.run(load_saved_replies, [feed.key for feed in feeds]) if feeds else {}
            )
        except (Error, DatabaseUnavailable) as error:
            logger.warning("saved replies could not be read: %s", database.describe_failure(error))
            return
        for feed in feeds:
            feed.apply_saved(saved_replies[feed.key])
