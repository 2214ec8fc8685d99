"""Load the messages that a search found together with their neighbours, in one query."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from convo.history import TranscriptMessage
from convo.search.scope import FINDABLE_SQL, Scope, Version, lookup_join
from convo.sql import fetch_all

# This is raw SQL because creating model instances takes longer than all the rest of a search.
_MESSAGES_SQL = f"""
    SELECT message.session_id, message.position, message.id, message.item_id, message.turn_id, turn.number,
        turn.kind, message.type, message.role, message.name, message.agent, message.content, message.item,
        message.tokens, message.created_at
    FROM ({{ids}}) ids {{message_join}} JOIN convo_turn turn ON turn.id = message.turn_id
    WHERE message.thread = '' AND message.position < {{before}}
    AND {FINDABLE_SQL}
"""
# A message that is near several hits is read once, because its contents may be long.
_IDS_SQL = "SELECT DISTINCT near.id FROM convo_message hit {near_join} WHERE hit.id IN ({hit_ids})"
_IS_NEAR_SQL = """near.session_id = hit.session_id
    AND near.position BETWEEN hit.position - {reach} AND hit.position + {reach}"""
_NO_LIMIT = 2**63 - 1

# Many of the messages belong to the same session, so its parsed id is cached.
_parse_uuid = lru_cache(maxsize=1000)(UUID)


class LoadedMessage(NamedTuple):
    """A message as the database returns it."""

    raw_session_id: UUID | str
    position: int
    message_id: int
    item_id: str
    turn_id: int
    turn_number: int
    kind: str
    type: str
    role: str
    name: str
    agent: str
    content: str
    item: str | None
    tokens: int
    raw_created_at: datetime | str

    @property
    def created_at(self) -> datetime:
        # SQLite stores datetimes as text, in UTC.
        moment = self.raw_created_at
        return moment if isinstance(moment, datetime) else datetime.fromisoformat(moment).replace(tzinfo=UTC)

    @property
    def session_id(self) -> UUID:
        session_id = self.raw_session_id
        return session_id if isinstance(session_id, UUID) else _parse_uuid(session_id)

    @property
    def transcript_message(self) -> TranscriptMessage:
        head = self.position, self.turn_id, self.type, self.role, self.name, self.agent
        return TranscriptMessage.from_columns(*head, self.content, self.item, self.tokens, self.kind)


class LoadedMessages:
    """Messages by session and position, so that the neighbours of each can be looked up."""

    def __init__(self, rows: Iterable[Iterable[object]]) -> None:
        self._messages = {(row.raw_session_id, row.position): row for row in map(LoadedMessage._make, rows)}
        self._transcript_messages: dict[tuple[UUID | str, int], TranscriptMessage] = {}

    def get(self, session: UUID | str, position: int) -> LoadedMessage | None:
        return self._messages.get((session, position))

    def neighbours(self, message: LoadedMessage, offsets: range) -> list[TranscriptMessage]:
        """Return the messages at these offsets from a message, leaving out positions that have none."""
        keys = ((message.raw_session_id, message.position + offset) for offset in offsets)
        return [self._transcript_message(key) for key in keys if key in self._messages]

    def _transcript_message(self, key: tuple[UUID | str, int]) -> TranscriptMessage:
        # A message is often a neighbour of several messages, so it is built once.
        if key not in self._transcript_messages:
            self._transcript_messages[key] = self._messages[key].transcript_message
        return self._transcript_messages[key]


def load_messages(message_ids: Sequence[int], neighbours: int, before_position: int | None) -> LoadedMessages:
    """Load these messages and their neighbours, without those that may not be found or are too new."""
    if not message_ids:
        return LoadedMessages([])
    return LoadedMessages(fetch_all(_messages_sql(message_ids, neighbours, before_position)))


def load_with_version(
    scope: Scope, newest_id: int, message_ids: Sequence[int], neighbours: int
) -> tuple[Version, LoadedMessages]:
    """Load these messages as `load_messages` does, and the scope's version, in one statement.

    So a search in a scope that has not changed since its messages were cached takes one statement.
    """
    version_sql, values = scope.version_sql(newest_id)
    # Without any message there is still one row, with the version.
    messages_sql = _messages_sql(message_ids or [0], neighbours, scope.before_position)
    sql = f"SELECT version.*, found.* FROM ({version_sql}) version LEFT JOIN ({messages_sql}) found ON true"
    rows = fetch_all(sql, values)
    width = len(Version._fields)
    messages = LoadedMessages(row[width:] for row in rows if row[width] is not None)
    return Version._make(rows[0][:width]), messages


def _messages_sql(message_ids: Sequence[int], neighbours: int, before_position: int | None) -> str:
    near_join = lookup_join("convo_message", "near", _IS_NEAR_SQL.format(reach=int(neighbours)))
    return _MESSAGES_SQL.format(
        ids=_IDS_SQL.format(near_join=near_join, hit_ids=", ".join(map(str, message_ids))),
        message_join=lookup_join("convo_message", "message", "message.id = ids.id"),
        before=_NO_LIMIT if before_position is None else int(before_position),
    )
