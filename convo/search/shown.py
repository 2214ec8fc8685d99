"""What is shown of the messages that were found: read once, with the lines around them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from convo.history import Line
from convo.models import Turn
from convo.search.where import SHOWN

# In the database's own words, for rows of Django's take longer to make than all the rest of a search.
_SAID = f"""
    SELECT said.session_id, said.position, said.id, said.item_id, said.turn_id, turn.number, turn.kind,
        said.type, said.role, said.name, said.agent, said.content, said.item, said.tokens, said.created_at
    FROM convo_message said JOIN convo_turn turn ON turn.id = said.turn_id
    WHERE said.id IN ({{keys}}) AND said.thread = '' AND said.position < {{before}}
    AND {SHOWN}
"""
_AROUND = """
    SELECT near.id FROM convo_message hit JOIN convo_message near ON near.session_id = hit.session_id
    AND near.position BETWEEN hit.position - {away} AND hit.position + {away} WHERE hit.id IN ({keys})
"""
_ENDLESS = 2**63 - 1

# Of a session mostly many messages are shown.
_uuid = lru_cache(maxsize=1000)(UUID)


class Said(NamedTuple):
    """A message as the database gives it."""

    session: Any
    position: int
    message_id: int
    item_id: str
    turn: int
    number: int
    kind: str
    type: str
    role: str
    name: str
    agent: str
    content: str
    item: str | None
    tokens: int
    at: Any

    @property
    def created_at(self) -> datetime:
        # SQLite keeps moments as text, in UTC.
        at = self.at
        return at if isinstance(at, datetime) else datetime.fromisoformat(at).replace(tzinfo=UTC)

    @property
    def session_id(self) -> UUID:
        return self.session if isinstance(self.session, UUID) else _uuid(self.session)

    @property
    def line(self) -> Line:
        return Line(
            position=self.position,
            turn=self.turn,
            type=self.type,
            role=self.role,
            name=self.name,
            agent=self.agent,
            content=self.content,
            item=json.loads(self.item) if self.item else None,
            tokens=self.tokens,
            asked=self.kind == Turn.Kind.REPLY,
        )


class Shown:
    """Messages by where they were said, each with those around it."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self._said: Mapping[tuple[Any, int], Said] = {(row[0], row[1]): Said._make(row) for row in rows}
        self._lines: dict[tuple[Any, int], Line] = {}

    def at(self, session: Any, position: int) -> Said | None:
        return self._said.get((session, position))

    def around(self, said: Said, away: range) -> list[Line]:
        """The lines so many positions away, as far as there are any."""
        return list(self._around(said, away))

    def _around(self, said: Said, away: range) -> Iterator[Line]:
        for position in range(said.position + away.start, said.position + away.stop):
            place = said.session, position
            if place not in self._lines and place in self._said:
                # One line often stands around several messages.
                self._lines[place] = self._said[place].line
            if place in self._lines:
                yield self._lines[place]


def shown(messages: Sequence[int], neighbours: int, before: int | None) -> Shown:
    """These messages and those around them: what may be recalled, and nothing newer than asked for."""
    if not messages:
        return Shown([])
    keys = ", ".join(map(str, messages))
    around = _AROUND.format(keys=keys, away=int(neighbours)) if neighbours else keys
    with connection.cursor() as cursor:
        cursor.execute(_SAID.format(keys=around, before=_ENDLESS if before is None else int(before)))
        return Shown(cursor.fetchall())
