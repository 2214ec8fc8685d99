"""Keep the contents of ephemeral sessions: in the cache alone, for as long as the session is used.

Their rows are like all others, but have no text. The contents are stored in the cache before the rows are
committed: a process that dies in between leaves contents without a row, never a row without its contents. All
contents of a session lie under one key, which is read and written under the session's row lock, so that they
exist together or are lost together.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import redis
from django.core.cache import BaseCache, caches
from django.db import transaction

from convo import database
from convo.breaker import Breaker, BreakerOpen
from convo.conf import conf, ephemeral_cache
from convo.errors import ContentsExpired, DatabaseUnavailable, MessageTooLong
from convo.history.messages import TranscriptMessage
from convo.history.window import CONNECTION_ERRORS
from convo.models import ItemOutline, Message, Session, Turn

logger = logging.getLogger(__name__)

SCHEMA = 2
# The limit is there because all contents are written again at each append.
MAX_CHARACTERS = 8_000_000
UNAVAILABLE_MESSAGE = (
    "The contents of temporary chats can't be reached right now; nothing was changed. Try again."
)
FULL_MESSAGE = f"A temporary chat holds up to {MAX_CHARACTERS} characters. Start a new one."

_breaker = Breaker(open_seconds=1.0, failure_types=CONNECTION_ERRORS)


@dataclass
class EphemeralContents:
    """The cached contents of one session: messages by position, the rest by the number of the turn."""

    messages: dict[str, list[Any]] = field(default_factory=dict)
    queued_questions: dict[str, list[Any]] = field(default_factory=dict)
    chunks: dict[str, list[Any]] = field(default_factory=dict)


def save_contents(session: Session, rows: Sequence[Message]) -> None:
    """Save the contents of new messages of a locked ephemeral session."""
    if not rows:
        return
    contents = _load_for_update(session)
    contents.messages |= {str(row.position): [row.item_id, row.content, row.item, row.name] for row in rows}
    # A reply, all of whose messages have an agent, is saved however long it is: it was written already.
    is_reply = all(row.agent for row in rows)
    if not is_reply and _character_count(contents) > MAX_CHARACTERS:
        raise MessageTooLong(FULL_MESSAGE, param="message")
    _save(session.pk, contents)


def without_contents(row: Message) -> Message:
    """Return a copy of a new message without its contents, to insert in its place."""
    bare_row = copy(row)
    # Only the id that ties a tool call to its result is stored, for pairing them in SQL.
    call_id_only = {"call_id": row.item["call_id"]} if row.item and "call_id" in row.item else None
    bare_row.content, bare_row.item, bare_row.name = "", call_id_only, ""
    return bare_row


def _character_count(contents: EphemeralContents) -> int:
    return sum(len(content) + len(str(item or "")) for _, content, item, _ in contents.messages.values())


def has_no_text(row: Message | TranscriptMessage) -> bool:
    """Return whether a row has no text of its own; rows of ephemeral sessions never have any."""
    return not row.content and (row.item is None or row.item.keys() == {"call_id"})


def load_contents(rows: Iterable[Message], *, allow_missing: bool = False) -> list[Message]:
    """Fill in the contents of ephemeral rows from the cache, and return all rows.

    Raise ContentsExpired if some are lost, unless `allow_missing`. Rows with text of their own cost nothing.
    """
    rows = list(rows)
    if bare_rows := [row for row in rows if has_no_text(row)]:
        sessions = Session.objects.filter(storage=Session.Storage.EPHEMERAL)
        ids = sessions.filter(pk__in={row.session_id for row in bare_rows}).values_list("pk", flat=True)
        contents_by_session = {pk: _load(pk) or EphemeralContents() for pk in ids}
        for row in bare_rows:
            if row.session_id in contents_by_session:
                _fill_row(row, contents_by_session[row.session_id], allow_missing=allow_missing)
    return rows


def _fill_row(row: Message, contents: EphemeralContents, *, allow_missing: bool) -> None:
    entry = contents.messages.get(str(row.position))
    if entry and entry[0] == row.item_id:
        _, row.content, row.item, row.name = entry
    elif not allow_missing:
        raise ContentsExpired


def has_lost_contents(session: Session) -> bool:
    """Return whether this ephemeral session has lost its contents, so that it can't be continued."""
    return session.is_ephemeral and _has_messages(session) and _load(session.pk) is None


def _has_messages(session: Session) -> bool:
    return session.last_position > session.base_position


def save_question(session: Session, number: int, messages: list[Any]) -> None:
    contents = _load_for_update(session)
    contents.queued_questions[str(number)] = messages
    _save(session.pk, contents)


def load_question(turn: Turn) -> list[dict[str, Any]]:
    contents = _load(turn.session_id) or EphemeralContents()
    if str(turn.number) not in contents.queued_questions:
        raise ContentsExpired
    return contents.queued_questions[str(turn.number)]


def save_chunks(turn: Turn, chunks: list[ItemOutline]) -> None:
    """Save the chunk lengths of a turn's reply, and drop its draft once the turn's end is committed.

    They are not stored in the row, because the lengths of words reveal much of the words.
    """
    if chunks and (contents := _load(turn.session_id)):
        contents.chunks[str(turn.number)] = chunks
        _save(turn.session_id, contents)
    transaction.on_commit(partial(_drop, _draft_key(turn.session_id)))


def load_chunks(turn: Turn) -> list[ItemOutline]:
    contents = _load(turn.session_id) or EphemeralContents()
    return contents.chunks.get(str(turn.number), [])


def save_draft(turn: Turn, text: str, chunks: list[ItemOutline]) -> None:
    """Save the draft of a running turn and renew the session's contents; a failing cache is only logged."""
    draft = [str(turn.key), text, chunks]
    try:
        _call_cache(lambda cache: cache.set(_draft_key(turn.session_id), draft, conf().window_seconds))
        _call_cache(lambda cache: cache.touch(_key(turn.session_id), conf().window_seconds))
    except DatabaseUnavailable:
        logger.warning("the draft of a temporary chat was not saved")
    # Check this last: a turn that ended before the draft was saved has already tried to drop it.
    if not Turn.objects.running().filter(pk=turn.pk).exists():
        _drop(_draft_key(turn.session_id))


def load_draft(turn: Turn) -> tuple[str, list[ItemOutline]]:
    try:
        key, text, chunks = _call_cache(lambda cache: cache.get(_draft_key(turn.session_id))) or ("", "", [])
    except (DatabaseUnavailable, ValueError, TypeError):
        return "", []
    return (str(text), list(chunks)) if key == str(turn.key) else ("", [])


def copy_contents(source: Session, target: Session, positions: Sequence[int], numbers: Iterable[int]) -> None:
    """Copy the contents at these positions, and the chunk lengths of the turns with these numbers, to a fork.

    The fork numbers the messages from 1, in the given order.
    """
    contents = _load(source.pk)
    if contents is None or not contents.messages.keys() >= set(map(str, positions)):
        raise ContentsExpired
    messages = {str(new): contents.messages[str(old)] for new, old in enumerate(positions, 1)}
    chunks = {key: contents.chunks[key] for key in map(str, numbers) if key in contents.chunks}
    _save(target.pk, EphemeralContents(messages=messages, chunks=chunks))


def move_contents(source: Session, target: Session) -> None:
    if not source.is_ephemeral:
        return
    if source_contents := _load(source.pk):
        target_contents = _load(target.pk) or EphemeralContents()
        messages = target_contents.messages | source_contents.messages
        chunks = target_contents.chunks | source_contents.chunks
        _save(target.pk, EphemeralContents(messages=messages, chunks=chunks))
    prune_contents(source)


def prune_contents(session: Session) -> None:
    """Drop an ephemeral session's contents that no row refers to any more, once the transaction commits."""
    if session.is_ephemeral:
        transaction.on_commit(partial(_prune, session.pk))


@database.retry_conflicts
def _prune(session_id: UUID) -> None:
    try:
        with transaction.atomic():
            session = Session.objects.lock(session_id)
            if session is None or not session.turns.running().exists():
                _drop(_draft_key(session_id))
            if session is None:
                _drop(_key(session_id))
            elif contents := _load(session_id):
                _save(session_id, _referenced_contents(session, contents))
    except DatabaseUnavailable:
        # Nobody reads these contents any more, and the cache drops them when their time is over.
        logger.warning("contents of a temporary chat were not dropped yet")


def _referenced_contents(session: Session, contents: EphemeralContents) -> EphemeralContents:
    rows = Message.objects.filter(session=session, erased_at=None)
    positions = set(rows.values_list("position", flat=True))
    reply_numbers = set(rows.exclude(agent="").values_list("turn__number", flat=True))
    queued_turns = Turn.objects.filter(session=session).exclude(input=[])
    queued_numbers = set(queued_turns.values_list("number", flat=True))
    return EphemeralContents(
        messages={key: entry for key, entry in contents.messages.items() if int(key) in positions},
        queued_questions={
            key: entry for key, entry in contents.queued_questions.items() if int(key) in queued_numbers
        },
        chunks={key: entry for key, entry in contents.chunks.items() if int(key) in reply_numbers},
    )


def _load_for_update(session: Session) -> EphemeralContents:
    contents = _load(session.pk)
    if contents is None and _has_messages(session):
        raise ContentsExpired
    return contents or EphemeralContents()


def _load(session_id: UUID) -> EphemeralContents | None:
    """Load the contents of a session and renew their lifetime; return None if they are gone."""
    try:
        cached = _call_cache(lambda cache: cache.get(_key(session_id)))
        contents = None if cached is None else _parse(cached)
    except (ValueError, TypeError):
        logger.warning("the cached contents of a temporary chat are damaged")
        return None
    if contents is None:
        return None
    _call_cache(lambda cache: cache.touch(_key(session_id), conf().window_seconds))
    return contents


def _parse(cached: Any) -> EphemeralContents:
    contents = EphemeralContents(**cached)
    if not all(isinstance(value, dict) for value in asdict(contents).values()):
        raise ValueError("not in the stored format")
    return contents


def _save(session_id: UUID, contents: EphemeralContents) -> None:
    _call_cache(lambda cache: cache.set(_key(session_id), asdict(contents), conf().window_seconds))


def _drop(key: str) -> None:
    try:
        _call_cache(lambda cache: cache.delete(key))
    except DatabaseUnavailable:
        logger.warning("contents of a temporary chat were not dropped")


def _call_cache(operation: Callable[[BaseCache], Any]) -> Any:
    # No other store has the contents, so a cache that can't be reached is a 503.
    try:
        with _breaker:
            return operation(caches[ephemeral_cache()])
    except BreakerOpen:
        raise DatabaseUnavailable(UNAVAILABLE_MESSAGE) from None
    except (*CONNECTION_ERRORS, redis.RedisError) as error:
        logger.warning("the cache of temporary chats is unavailable: %s", type(error).__name__)
        raise DatabaseUnavailable(UNAVAILABLE_MESSAGE) from error


def _key(session_id: UUID) -> str:
    return f"convo:ephemeral:{SCHEMA}:{session_id}"


def _draft_key(session_id: UUID) -> str:
    # One key per session is enough, as only one of its turns runs at a time.
    return f"convo:ephemeral:{SCHEMA}:draft:{session_id}"
