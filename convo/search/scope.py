"""The scope of a search: the messages that it covers, and the SQL that reads them.

This is raw SQL because Django takes longer to build these queries than search takes to rank their results.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Sum

from convo.models import IndexedMessage, Person, Session, owner_key_of, scope_key_of
from convo.search.score import Row
from convo.sql import fetch_all

# In a scope of at most this many messages, every message is ranked.
SMALL_SCOPE = 1200

# An SQL condition, and the values of its placeholders.
SqlValue = str | int | datetime | UUID | None
Condition = tuple[str, list[SqlValue]]

# A search may find messages of the active branch that were neither deleted nor forgotten.
FINDABLE_SQL = "message.active AND message.recallable AND message.erased_at IS NULL"

_LOOKUP_SQL = {
    "sqlite": "CROSS JOIN {table} {name} ON {condition}",
    "postgresql": "CROSS JOIN LATERAL (SELECT * FROM {table} {name} WHERE {condition} OFFSET 0) {name}",
}
_SELECT_SQL = f"""
    SELECT {{columns}} FROM convo_indexedmessage entry {{message_join}}
    WHERE {FINDABLE_SQL} AND {{conditions}} {{suffix}}
"""
# The columns of a Row, in the order of its fields.
_ROW_COLUMNS = """
    entry.message_id, entry.session_id, entry.position,
    entry.statement_terms, entry.question_terms, entry.date_terms,
    entry.vector, entry.model, entry.dim, message.name, message.item_id
"""
# Sessions that were deleted and can still be restored are not searched.
_NOT_DELETED = """
    entry.session_id NOT IN (SELECT id FROM convo_session WHERE owner_id = %s AND state_before IS NOT NULL)
"""
# This reads nothing but an index, and stops once the scope is known to be large.
_COUNT_SQL = (
    "SELECT COUNT(*) FROM "
    f"(SELECT 1 FROM convo_indexedmessage WHERE {{column}} = %s LIMIT {SMALL_SCOPE + 1}) AS few"
)
_VERSION_SQL = """
    SELECT * FROM (
        SELECT
            COUNT(*), MAX(message_id), COALESCE(SUM(message_id), 0),
            COUNT(CASE WHEN message_id > %s THEN 1 END),
            COALESCE(SUM(CASE WHEN message_id > %s THEN message_id END), 0)
        FROM convo_indexedmessage WHERE {column} = %s
    ) AS index_state, (
        SELECT COUNT(*), SUM(epoch), MIN(CAST(id AS TEXT)), MAX(CAST(id AS TEXT))
        FROM convo_session WHERE {session} = %s
    ) AS session_state
"""


class Version(NamedTuple):
    """The version of a scope: numbers that change with its indexed messages or with their visibility."""

    messages: int
    newest_id: int | None
    id_sum: int  # a message that is indexed late may take the place of one that was removed
    messages_after: int  # those with a higher id than the newest of the version that it is compared with
    id_sum_after: int
    sessions: int
    epochs: int | None
    first: str | None
    last: str | None

    def equals(self, other: "Version") -> bool:
        return self._replace(messages_after=0, id_sum_after=0) == other._replace(
            messages_after=0, id_sum_after=0
        )

    def extends(self, other: "Version") -> bool:
        """Return whether messages were indexed since `other`, and nothing else changed.

        The epochs of sessions rise with every change that is not an append.
        """
        with_appends = other._replace(
            messages=other.messages + self.messages_after,
            newest_id=self.newest_id,
            id_sum=other.id_sum + self.id_sum_after,
        )
        return self.equals(with_appends)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The messages that a search covers: those of an owner, person or session, narrowed by filters."""

    owner: User
    person: Person | None = None
    session: Session | None = None
    agent: str = ""
    after: datetime | None = None
    before: datetime | None = None
    before_position: int | None = None

    @property
    def scope_key(self) -> str:
        """The scope key to look words up under: the narrowest one that covers everything searched."""
        if self.session is not None:
            return scope_key_of(self.session.person, self.session)
        return scope_key_of(self.person, Session()) if self.person else owner_key_of(self.owner.pk)

    @property
    def is_unfiltered(self) -> bool:
        return not (self.agent or self.after or self.before or self.before_position is not None)

    @property
    def base_condition(self) -> Condition:
        """The condition that every message of the scope meets, on the column that has an index."""
        column, value = self._key_column
        return f"entry.{column} = %s", [value]

    def rows(self, *conditions: Condition, suffix: str = "") -> list[Row]:
        return list(map(Row._make, self._select(_ROW_COLUMNS, [*conditions, *self._conditions()], suffix)))

    def message_ids(self, *conditions: Condition) -> list[int]:
        return [key for (key,) in self._select("entry.message_id", [*conditions, *self._conditions()], "")]

    def count(self) -> int:
        """Return the number of indexed messages, or SMALL_SCOPE + 1 if there are more."""
        column, value = self._key_column
        ((count,),) = fetch_all(_COUNT_SQL.format(column=column), [value])
        return int(count)

    def version(self, newest_id: int) -> Version:
        """Return the version as it is now; `newest_id` is that of the version that it is compared with."""
        return Version._make(*fetch_all(*self.version_sql(newest_id)))

    def version_sql(self, newest_id: int) -> Condition:
        column, value = self._key_column
        version_sql = _VERSION_SQL.format(column=column, session="id" if self.session else column)
        return version_sql, [newest_id, newest_id, value, value]

    def message_count(self) -> int:
        """Return the number of messages under the scope key; a person's session has its person's key.

        The sessions' own counters are added up: counting the indexed messages would take as long as all the
        rest of a search.
        """
        sessions = Session.objects.filter(owner=self.owner, kind=Session.Kind.CONVERSATION)
        if self.person is not None and self.person.ref:
            sessions = sessions.filter(person=self.person)
        elif self.session is not None:
            sessions = sessions.filter(pk=self.session.pk)
        return sessions.aggregate(total=Sum("message_count"))["total"] or 0

    @property
    def _key_column(self) -> tuple[str, SqlValue]:
        field_name = "session" if self.session else "person" if self.person else "owner"
        field: Any = IndexedMessage._meta.get_field(field_name)
        value = (self.session or self.person or self.owner).pk
        return field.column, field.get_db_prep_value(value, connection)

    def _select(self, columns: str, conditions: list[Condition], suffix: str) -> list[tuple[Any, ...]]:
        sql = _SELECT_SQL.format(
            columns=columns,
            message_join=lookup_join("convo_message", "message", "message.id = entry.message_id"),
            conditions=" AND ".join(sql for sql, _ in conditions),
            suffix=suffix,
        )
        return fetch_all(sql, [value for _, values in conditions for value in values])

    def _conditions(self) -> Iterator[Condition]:
        """Yield the conditions that keep a search within its scope, all but its session.

        A search of a session adds `base_condition`, or asks for messages that are known to be the session's.
        They are part of the query, so nobody else's messages are ever ranked. They compare the scope keys,
        which have no index: with an indexed column the database would walk through all messages of a person
        to find the few whose primary keys are given.
        """
        owner_key, owner_field = owner_key_of(self.owner.pk), IndexedMessage._meta.get_field("owner")
        yield "entry.owner_key = %s", [owner_key]
        yield _NOT_DELETED, [owner_field.get_db_prep_value(self.owner.pk, connection)]
        if self.scope_key != owner_key:
            yield "entry.scope_key = %s", [self.scope_key]
        if self.agent:
            yield "(SELECT agent FROM convo_turn WHERE id = message.turn_id) = %s", [self.agent]
        if self.after is not None:
            yield "message.created_at > %s", [connection.ops.adapt_datetimefield_value(self.after)]
        if self.before is not None:
            yield "message.created_at < %s", [connection.ops.adapt_datetimefield_value(self.before)]
        if self.before_position is not None:
            yield "entry.position < %s", [self.before_position]


def lookup_join(table: str, name: str, condition: str) -> str:
    """Return the SQL that joins a table to the rows before it by looking its rows up, in this order.

    Left to choose, PostgreSQL reads the whole table, and without fresh statistics it reads it again for every
    row. A lateral subquery with an OFFSET, and SQLite's CROSS JOIN, leave no choice.
    """
    return _LOOKUP_SQL[connection.vendor].format(table=table, name=name, condition=condition)
