"""The words of temporary chats: in the cache alone, for as long as the chat is used.

Their rows are rows like all others, without a word. The words are put here before the rows are stored: a
process that dies in between leaves words that no row asks for, never a row without its words. All of a chat's
words lie under one key, which is read and written under the session's row lock: they are there together, or
gone together.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import redis
from django.core.cache import BaseCache, caches
from django.db import transaction

from convo import database
from convo.conf import conf, fleeting_cache
from convo.errors import MessageTooLong, TextGone, Unavailable
from convo.history import attachments
from convo.history.window import AWAY, Breaker, Resting
from convo.models import Message, Session, Turn

logger = logging.getLogger(__name__)

SCHEMA = 1
# It is written whole at each append.
MOST_CHARACTERS = 8_000_000
AWAY_NOW = "What is said in temporary chats cannot be reached just now, and nothing was changed. Try again."
FULL = f"A temporary chat holds up to {MOST_CHARACTERS} characters. Begin another one."

_breaker = Breaker(rest_seconds=1.0)


@dataclass
class Words:
    """What is said in one chat, as the cache has it: by position, and by the number of the turn."""

    said: dict[str, list[Any]] = field(default_factory=dict)
    asked: dict[str, list[Any]] = field(default_factory=dict)  # the questions that wait in the queue
    cuts: dict[str, list[Any]] = field(default_factory=dict)  # how the replies were streamed


def is_fleeting(session: Session) -> bool:
    return session.storage == Session.Storage.EPHEMERAL


@contextmanager
def apart(session: Session, rows: Sequence[Message]) -> Iterator[None]:
    """Let these rows of a locked session be stored without their words, where it is a temporary chat."""
    if not (rows and is_fleeting(session)):
        yield
        return
    attachments.check_brought(rows)
    words = _opened(session)
    said = {str(row.position): [row.item_id, row.content, row.item, row.name] for row in rows}
    words.said |= said
    if not all(row.agent for row in rows) and _length(words) > MOST_CHARACTERS:
        raise MessageTooLong(FULL, param="message")
    _keep(session.pk, words)
    for row in rows:
        row.content, row.item, row.name = "", _ties(row.item), ""
    yield
    for row in rows:
        _give(row, said[str(row.position)])


def _ties(item: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a row keeps of an item: the id that ties a call to its result."""
    return {"call_id": item["call_id"]} if item and "call_id" in item else None


def _give(row: Message, kept: Sequence[Any]) -> None:
    _, row.content, row.item, row.name = kept


def _length(words: Words) -> int:
    return sum(len(content) + len(str(item or "")) for _, content, item, _ in words.said.values())


def is_bare(row: Message) -> bool:
    """Has this row no words of its own? One of a temporary chat never has."""
    return not row.content and (row.item is None or row.item.keys() == {"call_id"})


def fill(rows: Iterable[Message], *, lost_too: bool = False) -> list[Message]:
    """These rows with their words, wherever those are; TextGone where some are lost, unless they may be.

    Rows that are kept with their words, as most are, cost no look-up.
    """
    rows = list(rows)
    if bare := [row for row in rows if is_bare(row)]:
        chats = Session.objects.filter(storage=Session.Storage.EPHEMERAL)
        for id in chats.filter(pk__in={row.session_id for row in bare}).values_list("pk", flat=True):
            words = _load(id) or Words()
            for row in bare:
                if row.session_id == id:
                    _fill(row, words, lost_too=lost_too)
    return rows


def _fill(row: Message, words: Words, *, lost_too: bool) -> None:
    kept = words.said.get(str(row.position))
    if kept and kept[0] == row.item_id:
        _give(row, kept)
    elif not lost_too:
        raise TextGone


def is_lost(session: Session) -> bool:
    """Is this a temporary chat whose words are gone, so that nothing can be said in it any more?"""
    return is_fleeting(session) and _holds_something(session) and _load(session.pk) is None


def _holds_something(session: Session) -> bool:
    return session.last_position > session.base_position


def drafts_aside(session: Session, number: int, drafts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the row of a queued turn says of its question: all of it or, in a temporary chat, nothing."""
    if not is_fleeting(session):
        return drafts
    words = _opened(session)
    words.asked[str(number)] = drafts
    _keep(session.pk, words)
    return [{} for _ in drafts]


def drafts_of(turn: Turn) -> list[dict[str, Any]]:
    """The question that a queued turn has not asked yet."""
    if not (turn.input and is_fleeting(turn.session)):
        return list(turn.input)
    words = _load(turn.session_id) or Words()
    if str(turn.number) not in words.asked:
        raise TextGone
    return words.asked[str(turn.number)]


def keep_cuts(session: Session, turn: Turn, pieces: list[Any]) -> None:
    """Keep how the reply of a turn was streamed, which ends now: lengths of words tell much of the words."""
    if pieces and (words := _load(session.pk)):
        words.cuts[str(turn.number)] = pieces
        _keep(session.pk, words)
    transaction.on_commit(partial(_drop, _draft_key(session.pk)))


def cuts_of(turn: Turn) -> list[Any]:
    """How the reply of this turn was streamed."""
    if not is_fleeting(turn.session):
        return list(turn.pieces)
    words = _load(turn.session_id) or Words()
    return words.cuts.get(str(turn.number), [])


def keep_draft(turn: Turn, text: str, pieces: list[Any]) -> None:
    """Keep what a running turn has said so far, and as long what was said before it, if that can be done."""
    draft = [str(turn.key), text, pieces]
    try:
        _ask(lambda cache: cache.set(_draft_key(turn.session_id), draft, conf().window_seconds))
        _ask(lambda cache: cache.touch(_key(turn.session_id), conf().window_seconds))
    except Unavailable:
        logger.warning("a draft of a temporary chat was not kept")
    # Afterwards, for a turn that ends meanwhile has dropped its draft, or will.
    if not Turn.objects.running().filter(pk=turn.pk).exists():
        _drop(_draft_key(turn.session_id))


def draft_of(turn: Turn) -> tuple[str, list[Any]]:
    """What a running turn of a temporary chat had said when that was kept last."""
    try:
        key, text, pieces = _ask(lambda cache: cache.get(_draft_key(turn.session_id))) or ("", "", [])
    except (Unavailable, ValueError, TypeError):
        return "", []
    return (str(text), list(pieces)) if key == str(turn.key) else ("", [])


def copy(source: Session, made: Session, positions: Sequence[int], numbers: Iterable[int]) -> None:
    """Give a fork the words at these positions, its first ones, and the cuts of these turns."""
    words = _load(source.pk)
    if words is None:
        raise TextGone
    said = {str(new): words.said.get(str(old)) for new, old in enumerate(positions, 1)}
    if None in said.values():
        raise TextGone
    cuts = {str(number): words.cuts[str(number)] for number in numbers if str(number) in words.cuts}
    _keep(made.pk, Words(said={at: kept for at, kept in said.items() if kept}, cuts=cuts))


def tidy(session: Session) -> None:
    """Once the transaction is over, drop those words of a temporary chat that no row asks for any more."""
    if is_fleeting(session):
        transaction.on_commit(partial(_tidy, session.pk))


@database.retried
def _tidy(session_id: UUID) -> None:
    try:
        with transaction.atomic():
            session = Session.objects.locked(session_id)
            if session is None or not session.turns.running().exists():
                _drop(_draft_key(session_id))
            if session is None:
                _drop(_key(session_id))
            elif words := _load(session_id):
                _keep(session_id, _still_asked_for(session, words))
    except Unavailable:
        # Nobody reads them any more, and their time ends.
        logger.warning("words of a temporary chat were not dropped yet")


def _still_asked_for(session: Session, words: Words) -> Words:
    there = set(Message.objects.filter(session=session, erased_at=None).values_list("position", flat=True))
    waiting = set(Turn.objects.filter(session=session).exclude(input=[]).values_list("number", flat=True))
    told = Message.objects.filter(session=session, erased_at=None).exclude(agent="")
    numbers = set(told.values_list("turn__number", flat=True))
    return Words(
        said={at: kept for at, kept in words.said.items() if int(at) in there},
        asked={at: kept for at, kept in words.asked.items() if int(at) in waiting},
        cuts={at: kept for at, kept in words.cuts.items() if int(at) in numbers},
    )


def _opened(session: Session) -> Words:
    """What is said in a locked chat, to be added to; TextGone where it is lost, for then nothing goes on."""
    words = _load(session.pk)
    if words is None and _holds_something(session):
        raise TextGone
    return words or Words()


def _load(session_id: UUID) -> Words | None:
    """The words of this chat, which stay as long again; None when they are gone."""
    try:
        kept = _ask(lambda cache: cache.get(_key(session_id)))
        words = None if kept is None else _read(kept)
    except (ValueError, TypeError):
        logger.warning("words of a temporary chat are damaged")
        return None
    if words is None:
        return None
    _ask(lambda cache: cache.touch(_key(session_id), conf().window_seconds))
    return words


def _read(kept: Any) -> Words:
    words = Words(**kept)
    if not all(isinstance(part, dict) for part in asdict(words).values()):
        raise ValueError("not what was put there")
    return words


def _keep(session_id: UUID, words: Words) -> None:
    _ask(lambda cache: cache.set(_key(session_id), asdict(words), conf().window_seconds))


def _drop(key: str) -> None:
    try:
        _ask(lambda cache: cache.delete(key))
    except Unavailable:
        logger.warning("words of a temporary chat were not dropped")


def _ask(question: Callable[[BaseCache], Any]) -> Any:
    """What the cache answers. A border: whatever is wrong with it, the words can't be reached now."""
    try:
        with _breaker:
            return question(_cache())
    except Resting:
        raise Unavailable(AWAY_NOW, retry_after=1) from None
    except (*AWAY, redis.RedisError) as error:
        logger.warning("the cache of temporary chats is away: %s", type(error).__name__)
        raise Unavailable(AWAY_NOW, retry_after=1) from error


def _cache() -> BaseCache:
    return caches[fleeting_cache()]


def _key(session_id: UUID) -> str:
    return f"convo:fleeting:{SCHEMA}:{session_id}"


def _draft_key(session_id: UUID) -> str:
    """One turn of a session runs at a time."""
    return f"convo:fleeting:{SCHEMA}:draft:{session_id}"
