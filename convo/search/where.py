"""Whose messages are searched, and which of them, as the database is asked for them.

In the database's own words: to put these queries together takes Django longer than to rank what they find.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Sum

from convo.models import IndexedMessage, Person, Session, place_of, wide_place
from convo.search.score import Row

# With so few messages each of them is ranked.
FEW = 1200

# A condition, and the values in it.
Condition = tuple[str, list[Any]]

# What may be found today: on the branch that is shown, not erased, not forgotten.
SHOWN = "said.active AND said.recallable AND said.erased_at IS NULL"

# Of the messages PostgreSQL would rather read the whole table than look up a thousand: it is not asked.
_SAID = {
    "sqlite": "JOIN convo_message said ON said.id = one.message_id",
    "postgresql": "CROSS JOIN LATERAL (SELECT * FROM convo_message WHERE id = one.message_id OFFSET 0) said",
}
_ROWS = f"""
    SELECT {{columns}} FROM convo_indexedmessage one {{said}} WHERE {SHOWN} AND {{conditions}} {{then}}
"""
# What a Row is made of.
_ROW = """
    one.message_id, one.session_id, one.position, one.words, one.asked, one.days,
    one.vector, one.model, one.dim, said.name, said.item_id
"""
_STAYS = """
    one.session_id NOT IN (SELECT id FROM convo_session WHERE owner_id = %s AND state_before IS NOT NULL)
"""
# Counted by an index alone, and no further than matters.
_COUNT = (
    f"SELECT COUNT(*) FROM (SELECT 1 FROM convo_indexedmessage WHERE {{column}} = %s LIMIT {FEW + 1}) AS few"
)
_SINCE = "SELECT COUNT(*) FROM convo_indexedmessage WHERE {column} = %s AND message_id > %s"
_STATE = """
    SELECT * FROM (
        SELECT COUNT(*), MAX(message_id) FROM convo_indexedmessage WHERE {column} = %s
    ) AS indexed, (
        SELECT COUNT(*), SUM(epoch), MIN(CAST(id AS TEXT)), MAX(CAST(id AS TEXT)), SUM(last_position)
        FROM convo_session WHERE {session} = %s
    ) AS said
"""


class Version(NamedTuple):
    """A small place, by numbers that change whenever something in it does, or what is shown of it."""

    messages: int
    newest: int | None
    sessions: int
    epochs: int | None
    first: str | None
    last: str | None
    positions: int | None

    def goes_on_from(self, other: "Version") -> bool:
        """Have messages come since then, and has nothing else changed? The epochs rise with all that does."""
        more = other._replace(messages=self.messages, newest=self.newest, positions=self.positions)
        return self.messages > other.messages and self == more


@dataclass(frozen=True, kw_only=True)
class Where:
    """Whose messages are searched, and which of them."""

    owner: Any
    person: Person | None = None
    session: Session | None = None
    agent: str = ""
    after: datetime | None = None
    before: datetime | None = None
    before_position: int | None = None

    @property
    def place(self) -> str:
        """The place whose words are looked up: it holds all that is searched, and little else."""
        if self.session is not None:
            return place_of(self.session.person, self.session)
        return place_of(self.person, Session()) if self.person else wide_place(self.owner.pk)

    @property
    def whole(self) -> bool:
        """Is the place, or the session, wanted as it is?"""
        return not (self.agent or self.after or self.before or self.before_position is not None)

    @property
    def all(self) -> Condition:
        """All that is there, by the shortest way to it."""
        column, key = self._key
        return f"one.{column} = %s", [key]

    def found(self, *these: Condition, then: str = "") -> list[Row]:
        """What of these may be found."""
        return list(map(Row._make, self._read(_ROW, [*these, *self._wanted()], then)))

    def keys(self, *these: Condition) -> list[int]:
        """The messages of these that may be found, by their keys."""
        return [key for (key,) in self._read("one.message_id", [*these, *self._wanted()], "")]

    def count(self) -> int:
        """How many messages there are, if few."""
        column, key = self._key
        return int(_one(_COUNT.format(column=column), [key])[0])

    def version(self) -> Version:
        column, key = self._key
        state = _STATE.format(column=column, session="id" if self.session else column)
        return Version._make(_one(state, [key, key]))

    def since(self, newest: int) -> int:
        """How many messages were indexed that are newer than this one."""
        column, key = self._key
        return int(_one(_SINCE.format(column=column), [key, newest])[0])

    def total(self) -> int:
        """How many messages the place has whose words are looked up: a person's session shares its person's.

        The sessions know. To count what is indexed of them takes as long as all the rest of a search.
        """
        sessions = Session.objects.filter(owner=self.owner, kind=Session.Kind.CONVERSATION)
        if self.person is not None and self.person.ref:
            sessions = sessions.filter(person=self.person)
        elif self.session is not None:
            sessions = sessions.filter(pk=self.session.pk)
        return sessions.aggregate(total=Sum("message_count"))["total"] or 0

    @property
    def _key(self) -> tuple[str, Any]:
        """The column that has all that is there under one value, and this value, as the database has it."""
        whose = "session" if self.session else "person" if self.person else "owner"
        field: Any = IndexedMessage._meta.get_field(whose)
        key = (self.session or self.person or self.owner).pk
        return field.column, field.get_db_prep_value(key, connection)

    def _read(self, columns: str, conditions: list[Condition], then: str) -> list[tuple[Any, ...]]:
        sql = _ROWS.format(
            columns=columns,
            said=_SAID[connection.vendor],
            conditions=" AND ".join(sql for sql, _ in conditions),
            then=then,
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, [value for _, values in conditions for value in values])
            return list(cursor.fetchall())

    def _wanted(self) -> Iterator[Condition]:
        """Whose it is stands in the query itself, before anything is ranked.

        By place, which has no index: else the database would go through all of a person's
        messages to find the few whose keys are given.
        """
        wide, owner = wide_place(self.owner.pk), IndexedMessage._meta.get_field("owner")
        yield "one.wide = %s", [wide]
        yield _STAYS, [owner.get_db_prep_value(self.owner.pk, connection)]
        if self.place != wide:
            yield "one.place = %s", [self.place]
        if self.agent:
            yield "(SELECT agent FROM convo_turn WHERE id = said.turn_id) = %s", [self.agent]
        if self.after is not None:
            yield "said.created_at > %s", [connection.ops.adapt_datetimefield_value(self.after)]
        if self.before is not None:
            yield "said.created_at < %s", [connection.ops.adapt_datetimefield_value(self.before)]
        if self.before_position is not None:
            yield "one.position < %s", [self.before_position]


def _one(sql: str, values: list[Any]) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        found: tuple[Any, ...] = cursor.fetchone()
        return found
