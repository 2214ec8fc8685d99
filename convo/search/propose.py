"""The first stage: the database's own index proposes messages that may answer, out of any number."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import QuerySet, Sum

from convo.models import IndexedMessage, Person, Session, place_of, wide_place
from convo.models.search import IndexedMessageQuerySet, quoted
from convo.search import kept
from convo.search.score import REACH, Pool, Question, Rarity, Row

# With so few messages each of them is ranked.
FEW = 1200
# Of more, those that say one of the question's rarest words, and their neighbours.
MATCHES, CANDIDATES = 10_000, 200
# What a Row is made of.
FIELDS = (
    "message_id",
    "session_id",
    "position",
    "words",
    "asked",
    "days",
    "vector",
    "model",
    "dim",
    "message__name",
    "message__item_id",
)

# Counted by an index alone, and no further than matters.
_COUNT = (
    f"SELECT COUNT(*) FROM (SELECT 1 FROM convo_indexedmessage WHERE {{column}} = %s LIMIT {FEW + 1}) AS few"
)
_STATE = """
    SELECT * FROM (
        SELECT COUNT(*), MAX(message_id) FROM convo_indexedmessage WHERE {column} = %s
    ) AS indexed, (
        SELECT COUNT(*), SUM(epoch), SUM(last_position), MIN(CAST(id AS TEXT)), MAX(CAST(id AS TEXT))
        FROM convo_session WHERE {session} = %s
    ) AS said
"""
# The place is part of the word that is looked up, so nobody else's message is counted, or comes back.
_HOLDING = {
    "sqlite": "FROM convo_terms WHERE convo_terms MATCH %s",
    "postgresql": "FROM convo_indexedmessage WHERE terms @@ %s::tsquery",
}
# As one text: to make a row of each key would take longer than to find them.
_KEYS = {"sqlite": "group_concat(rowid)", "postgresql": "string_agg(message_id::text, ',')"}
_NEIGHBOURS = """
    convo_indexedmessage.message_id IN (
        SELECT neighbour.message_id FROM convo_indexedmessage candidate
        JOIN convo_indexedmessage neighbour ON neighbour.session_id = candidate.session_id
        AND neighbour.position BETWEEN candidate.position - {reach} AND candidate.position + {reach}
        WHERE candidate.message_id IN ({keys}))
"""


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

    def rows(self) -> IndexedMessageQuerySet:
        """All that is there, by the shortest way to it."""
        if self.session is not None:
            return IndexedMessage.objects.filter(session=self.session)
        if self.person is not None:
            return IndexedMessage.objects.filter(person=self.person)
        return IndexedMessage.objects.filter(owner=self.owner)

    def version(self) -> tuple[int, tuple[Any, ...]]:
        """How many messages there are, if few, and what changes when they do or what is shown does.

        Asked of the database for every question, in its own words: to make these takes Django longer.
        """
        whose = "session" if self.session else "person" if self.person else "owner"
        field: Any = IndexedMessage._meta.get_field(whose)
        key = field.get_db_prep_value((self.session or self.person or self.owner).pk, connection)
        with connection.cursor() as cursor:
            cursor.execute(_COUNT.format(column=field.column), [key])
            count = cursor.fetchone()[0]
            if count > FEW:
                return count, ()
            state = _STATE.format(column=field.column, session="id" if self.session else field.column)
            cursor.execute(state, [key, key])
            state = cursor.fetchone()
            return state[0], state

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

    def found(self, rows: IndexedMessageQuerySet) -> IndexedMessageQuerySet:
        """What of these may be found: whose it is stands in the query itself, before anything is ranked.

        By place, which has no index: else the database would go through all of a person's
        messages to find the few whose keys are given.
        """
        rows = rows.filter(wide=wide_place(self.owner.pk)).shown()
        rows = rows.exclude(session__in=Session.objects.discarded(self.owner))
        if self.place != wide_place(self.owner.pk):
            rows = rows.filter(place=self.place)
        if self.agent:
            rows = rows.filter(message__turn__agent=self.agent)
        if self.after is not None:
            rows = rows.filter(message__created_at__gt=self.after)
        if self.before is not None:
            rows = rows.filter(message__created_at__lt=self.before)
        if self.before_position is not None:
            rows = rows.filter(position__lt=self.before_position)
        return rows

    @property
    def narrow(self) -> bool:
        """Is only a part of the place wanted?"""
        return any([self.session, self.agent, self.after, self.before, self.before_position is not None])


def propose(where: Where, question: Question) -> tuple[Pool, Rarity]:
    """The messages worth ranking, and how rare the question's words are in the place that was searched."""
    count, version = where.version()
    if count <= FEW:
        pool = _small(where, version)
        return pool, pool.rarity(question.words)
    rarity = _rarity(where, [*question.words, *question.days])
    candidates = _candidates(where, rarity)
    if not candidates:
        # No word of the question was ever said: what is meant is looked for among the newest.
        return Pool(_read(where.found(where.rows()).order_by("-message_id")[:FEW])), rarity
    neighbours = _NEIGHBOURS.format(reach=REACH, keys=", ".join(map(str, candidates)))
    return Pool(_read(where.found(IndexedMessage.objects.extra(where=[neighbours])))), rarity


def _small(where: Where, version: tuple[Any, ...]) -> Pool:
    """All that may be found in a place with few messages."""

    def read() -> Pool:
        return Pool(_read(where.found(where.rows())))

    if where.agent or where.after or where.before or where.before_position is not None:
        return read()
    session = where.session.pk.hex if where.session else ""
    return kept.pool(f"{connection.settings_dict['NAME']} {where.place} {session}", version, read)


def _read(rows: QuerySet[IndexedMessage]) -> list[Row]:
    """The rows as the database has them: to make what Django makes of keys takes longer than to rank them."""
    sql, params = rows.values_list(*FIELDS).query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(map(Row._make, cursor.fetchall()))


def _rarity(where: Where, words: Sequence[str]) -> Rarity:
    """How often each word was said in this place, counted by the index in one statement."""
    words = list(dict.fromkeys(words))
    found = _each(where.place, words, "(SELECT count(*) {holding})", "")
    return Rarity(counts={words[at]: count for at, count in found}, total=where.total())


def _candidates(where: Where, rarity: Rarity) -> list[int]:
    """The best of those that say one of the rarest words: the more of the rare ones, the better."""
    chosen: list[str] = []
    left = MATCHES
    for word, count in sorted(rarity.counts.items(), key=lambda counted: counted[1]):
        if count and (count <= left or not chosen):
            chosen.append(word)
            left -= count
    held = _each(where.place, chosen, _KEYS[connection.vendor], "{holding}")
    found = [
        (np.fromstring(keys, dtype=np.int64, sep=","), rarity.of(chosen[at])) for at, keys in held if keys
    ]
    if not found:
        return []
    keys, places = np.unique(np.concatenate([keys for keys, _ in found]), return_inverse=True)
    worth = np.bincount(places, np.repeat([rare for _, rare in found], [len(keys) for keys, _ in found]))
    if where.narrow:
        saying = IndexedMessage.objects.saying(f"{where.place}.{word}" for word in chosen)
        if where.session is not None:
            saying = saying.filter(session=where.session)
        allowed = np.isin(keys, list(where.found(saying).values_list("message_id", flat=True)))
        keys, worth = keys[allowed], worth[allowed]
    return list(keys[np.lexsort((keys, -worth))[:CANDIDATES]].tolist())


def _each(place: str, words: Sequence[str], what: str, whence: str) -> list[tuple[int, Any]]:
    """What the index has of each of these words in a place: its number among them, and keys or a count."""
    if not words:
        return []
    holding = _HOLDING[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT {at}, {what} {whence}".format(holding=holding) for at in range(len(words))
            ),
            [quoted(f"{place}.{word}") for word in words],
        )
        return list(cursor.fetchall())
