"""The first stage: the database's own index proposes messages that may answer, out of any number."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from django.db import connection

from convo.search import kept
from convo.search.score import REACH, Pool, Question, Rarity
from convo.search.where import FEW, Condition, Where

Keys = np.ndarray[Any, np.dtype[np.int64]]

# Where not all are ranked, those that say one of the question's rarest words are, and their neighbours.
MATCHES, CANDIDATES = 10_000, 200
# A word that so many say tells them apart no better than one that more do; nobody is found by it alone.
MANY = 10_000

# What says a word in a place. The place is part of the word that is looked up, so nobody else's message comes
# back, or is counted. As one text: to make a row of each key would take longer than to find them. PostgreSQL
# makes no more of its list than is taken from it, and this way never reads the whole table for the first few.
_HOLDING = {
    "sqlite": """(SELECT group_concat(rowid) FROM (
        SELECT rowid FROM convo_terms WHERE convo_terms MATCH %s LIMIT {most}))""",
    "postgresql": """(
        WITH held AS MATERIALIZED (SELECT message_id FROM convo_indexedmessage WHERE terms @@ %s::tsquery)
        SELECT array_agg(message_id)::text FROM (SELECT message_id FROM held LIMIT {most}) AS few)""",
}
_SAYING = {
    "sqlite": "one.message_id IN (SELECT rowid FROM convo_terms WHERE convo_terms MATCH %s)",
    "postgresql": "one.terms @@ %s::tsquery",
}
# A term as the query language of the database's index has it; terms hold no quotes.
_QUOTED = {"sqlite": '"{}"', "postgresql": "'{}'"}
_OR = {"sqlite": " OR ", "postgresql": " | "}
_NEIGHBOURS = """
    SELECT DISTINCT neighbour.message_id FROM convo_indexedmessage candidate
    JOIN convo_indexedmessage neighbour ON neighbour.session_id = candidate.session_id
    AND neighbour.position BETWEEN candidate.position - {reach} AND candidate.position + {reach}
    WHERE candidate.message_id IN ({keys})
"""


def propose(where: Where, question: Question) -> tuple[Pool, Rarity]:
    """The messages worth ranking, and how rare the question's words are in the place that was searched."""
    if pool := _small(where):
        return pool, pool.rarity(question.words)
    held = _held(where.place, [*question.words, *question.days])
    rarity = Rarity(counts={word: len(keys) for word, keys in held.items()}, total=where.total())
    candidates = _candidates(where, held, rarity)
    if not candidates:
        # No word of the question was ever said: what is meant is looked for among the newest.
        newest = where.found(where.all, then=f"ORDER BY one.message_id DESC LIMIT {FEW}")
        return Pool(newest), rarity
    return Pool(where.found(_these(_with_neighbours(candidates)))), rarity


def _small(where: Where) -> Pool | None:
    """All that may be found in a place with few messages."""
    if where.whole:
        return kept.pool(where)
    return Pool(where.found(where.all)) if where.count() <= FEW else None


def _held(place: str, words: Sequence[str]) -> dict[str, Keys]:
    """Who says each of these words in a place, asked of the index in one statement."""
    words = list(dict.fromkeys(words))
    if not words:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT " + ", ".join([_HOLDING[connection.vendor].format(most=MANY)] * len(words)),
            [_term(place, word) for word in words],
        )
        found = cursor.fetchone()
    return {
        word: np.fromstring((keys or "").strip("{}"), dtype=np.int64, sep=",")
        for word, keys in zip(words, found, strict=True)
    }


def _candidates(where: Where, held: Mapping[str, Keys], rarity: Rarity) -> list[int]:
    """The best of those that say one of the rarest words: the more of the rare ones, the better."""
    chosen: list[str] = []
    left = MATCHES
    for word in sorted(held, key=lambda word: len(held[word])):
        if len(held[word]) and (len(held[word]) < MANY or not chosen) and left > 0:
            chosen.append(word)
            left -= len(held[word])
    if not chosen:
        return []
    keys, places = np.unique(np.concatenate([held[word] for word in chosen]), return_inverse=True)
    rare = [rarity.of(word) for word in chosen]
    worth = np.bincount(places, np.repeat(rare, [len(held[word]) for word in chosen]))
    if where.session or not where.whole:
        # Only a part of the place is wanted.
        part = [where.all] if where.session else []
        allowed = np.isin(keys, where.keys(_saying(where.place, chosen), *part))
        keys, worth = keys[allowed], worth[allowed]
    return list(keys[np.lexsort((keys, -worth))[:CANDIDATES]].tolist())


def _with_neighbours(messages: Sequence[int]) -> list[int]:
    """These messages and those that may count as part of them.

    Asked for apart: PostgreSQL takes them for so many that it would read all of the index to find these.
    """
    with connection.cursor() as cursor:
        cursor.execute(_NEIGHBOURS.format(reach=REACH, keys=_listed(messages)))
        return [key for (key,) in cursor.fetchall()]


def _these(messages: Sequence[int]) -> Condition:
    return f"one.message_id IN ({_listed(messages)})", []


def _listed(keys: Sequence[int]) -> str:
    return ", ".join(map(str, keys))


def _saying(place: str, words: Sequence[str]) -> Condition:
    """Whatever says any of these words in a place."""
    return _SAYING[connection.vendor], [_OR[connection.vendor].join(_term(place, word) for word in words)]


def _term(place: str, word: str) -> str:
    return _QUOTED[connection.vendor].format(f"{place}.{word}")
