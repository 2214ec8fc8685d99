"""The first stage of a search: select candidates from any number of messages, by the database's own index.

A small scope is a candidate set as a whole. It is cached in this process, for one version of the scope.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from convo.database import in_batches
from convo.models import Person, Session, scope_key_of
from convo.search.embed import model_name
from convo.search.scope import SMALL_SCOPE, Condition, Scope, Version, lookup_join
from convo.search.score import REACH, CandidateSet, Question, Row, TermStats

Keys = NDArray[np.int64]

# In a large scope the question's words are used from the rarest on, until they match MAX_MATCHES messages.
# The best MAX_CANDIDATES of these are ranked, together with their neighbours.
MAX_MATCHES, MAX_CANDIDATES = 10_000, 200
# No more than MAX_MATCHES_PER_WORD matches of a word are read. A word with so many tells messages apart no
# better than one with more, so it selects candidates only if the question has no rarer word.
MAX_MATCHES_PER_WORD = 10_000
# Words that one SQL statement looks up, at most.
WORDS_AT_A_TIME = 100

# PostgreSQL's text index holds the result of this function for each row, and no column does.
_INDEX_TERMS = "convo_index_terms(statement_terms, question_terms, date_terms, scope_key, owner_key)"
# The keys of the messages in a scope that contain a word. The scope key is part of the term that is looked
# up, so nobody else's message is returned or counted. The keys come back as one string, because a row for
# each would take longer than finding them. PostgreSQL materializes no more of its CTE than the LIMIT takes,
# and the CTE keeps it from reading the whole table for the first few matches.
_MATCHING_KEYS_SQL = {
    "sqlite": """(SELECT group_concat(rowid) FROM (
        SELECT rowid FROM convo_terms WHERE convo_terms MATCH %s LIMIT {limit}))""",
    "postgresql": f"""(
        WITH matches AS MATERIALIZED (
            SELECT message_id FROM convo_indexedmessage WHERE {_INDEX_TERMS} @@ %s::tsquery
        )
        SELECT array_agg(message_id)::text FROM (SELECT message_id FROM matches LIMIT {{limit}}) limited)""",
}
_TERM_CONDITION_SQL = {
    "sqlite": "entry.message_id IN (SELECT rowid FROM convo_terms WHERE convo_terms MATCH %s)",
    "postgresql": f"{_INDEX_TERMS} @@ %s::tsquery",
}
# A term, quoted for the query language of each database's text index. Terms contain no quotes.
_TERM_QUOTING = {"sqlite": '"{}"', "postgresql": "'{}'"}
_OR = {"sqlite": " OR ", "postgresql": " | "}
_NEIGHBOURS_SQL = """
    SELECT DISTINCT neighbour.message_id FROM convo_indexedmessage candidate {neighbour_join}
    WHERE candidate.message_id IN ({keys})
"""
_IS_NEIGHBOUR_SQL = f"""neighbour.session_id = candidate.session_id
    AND neighbour.position BETWEEN candidate.position - {REACH} AND candidate.position + {REACH}"""


# The cache holds this many candidate sets. A set of a thousand messages takes about three megabytes.
MAX_ENTRIES = 16


class CacheEntry(NamedTuple):
    """All messages of a small scope, and the version of the scope that they were read for."""

    version: Version
    candidates: CandidateSet


_cache: OrderedDict[str, CacheEntry] = OrderedDict()
_lock = threading.Lock()


def select_candidates(
    scope: Scope, question: Question, stale_entry: tuple[CacheEntry, Version] | None = None
) -> tuple[CandidateSet, TermStats]:
    """Return the messages worth ranking, and how rare the question's words are in the scope.

    `stale_entry` is the cached entry of the scope with the scope's present version, which is another one.
    """
    if (candidates := _all_of_small_scope(scope, stale_entry)) is not None:
        return candidates, candidates.term_stats(question.terms)
    keys_by_word = _keys_by_word(
        scope.scope_key, [*question.terms, *question.date_terms], limit=MAX_MATCHES_PER_WORD
    )
    term_stats = TermStats(
        counts={word: len(keys) for word, keys in keys_by_word.items()}, total=scope.message_count()
    )
    candidate_keys = _candidate_keys(scope, keys_by_word, term_stats)
    if not candidate_keys:
        # No message that may be found contains a word of the question, so the newest are ranked by meaning.
        newest_rows = scope.rows(
            scope.base_condition, suffix=f"ORDER BY entry.message_id DESC LIMIT {SMALL_SCOPE}"
        )
        return CandidateSet(newest_rows), term_stats
    return CandidateSet(scope.rows(_key_condition(_with_neighbours(candidate_keys)))), term_stats


def message_ids_by_word(
    person: Person, words: Sequence[str], *, limit: int = 2**31
) -> dict[str, frozenset[int]]:
    """Return for each word the keys of the person's indexed messages that contain it, at most `limit`."""
    scope_key = scope_key_of(person, Session())
    keys_by_word: dict[str, Keys] = {}
    for batch in in_batches(words, WORDS_AT_A_TIME):
        keys_by_word |= _keys_by_word(scope_key, batch, limit=limit)
    return {word: frozenset(keys.tolist()) for word, keys in keys_by_word.items()}


def cached_entry(scope: Scope) -> CacheEntry | None:
    """Return what is cached of this scope; its user must compare the version."""
    if not scope.is_unfiltered:
        return None
    key = _cache_key(scope)
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
        return _cache.get(key)


def _cache_key(scope: Scope) -> str:
    session_key = scope.session.pk.hex if scope.session else ""
    return f"{connection.settings_dict['NAME']} {scope.scope_key} {session_key}"


def _all_of_small_scope(scope: Scope, stale_entry: tuple[CacheEntry, Version] | None) -> CandidateSet | None:
    """Return every message of a small scope; None if the scope is large."""
    if scope.is_unfiltered:
        return _read_and_cache(scope, stale_entry)
    return CandidateSet(scope.rows(scope.base_condition)) if scope.count() <= SMALL_SCOPE else None


def _keys_by_word(scope_key: str, words: Sequence[str], *, limit: int) -> dict[str, Keys]:
    words = list(dict.fromkeys(words))
    if not words:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT " + ", ".join([_MATCHING_KEYS_SQL[connection.vendor].format(limit=limit)] * len(words)),
            [_quoted_term(scope_key, word) for word in words],
        )
        row = cursor.fetchone()
    return {
        word: np.fromstring((keys or "").strip("{}"), dtype=np.int64, sep=",")
        for word, keys in zip(words, row, strict=True)
    }


def _candidate_keys(scope: Scope, keys_by_word: Mapping[str, Keys], term_stats: TermStats) -> list[int]:
    """Return the messages that contain the rarest words, the best by the sum of their words' weights."""
    rare_words = _rarest_words(keys_by_word)
    if not rare_words:
        return []
    keys, totals = _summed_weights({word: keys_by_word[word] for word in rare_words}, term_stats)
    if scope.session or not scope.is_unfiltered:
        # The scope key covers more messages than this search may find.
        conditions = [scope.base_condition] if scope.session else []
        is_allowed = np.isin(
            keys, scope.message_ids(_term_condition(scope.scope_key, rare_words), *conditions)
        )
        keys, totals = keys[is_allowed], totals[is_allowed]
    return list(keys[np.lexsort((keys, -totals))[:MAX_CANDIDATES]].tolist())


def _rarest_words(keys_by_word: Mapping[str, Keys]) -> list[str]:
    """Return the words from the rarest on, until they have enough messages; of common ones, at most one."""
    rare_words: list[str] = []
    matches = 0
    for word in sorted(keys_by_word, key=lambda word: len(keys_by_word[word])):
        count = len(keys_by_word[word])
        is_common = count >= MAX_MATCHES_PER_WORD
        if count and matches < MAX_MATCHES and not (is_common and rare_words):
            rare_words.append(word)
            matches += count
    return rare_words


def _summed_weights(keys_by_word: Mapping[str, Keys], term_stats: TermStats) -> tuple[Keys, Any]:
    """Return each message that contains a word, and the sum of the weights of the words that it contains."""
    keys, places = np.unique(np.concatenate(list(keys_by_word.values())), return_inverse=True)
    weight_of_each = np.repeat(
        [term_stats.weight(word) for word in keys_by_word],
        [len(matches) for matches in keys_by_word.values()],
    )
    return keys, np.bincount(places, weights=weight_of_each)


def _with_neighbours(message_ids: Sequence[int]) -> list[int]:
    """Return these messages and their neighbours, which the score counts as part of them.

    This is a query of its own: PostgreSQL overestimates the number of neighbours so much that it would read
    the whole index to find the messages among them.
    """
    with connection.cursor() as cursor:
        neighbour_join = lookup_join("convo_indexedmessage", "neighbour", _IS_NEIGHBOUR_SQL)
        cursor.execute(
            _NEIGHBOURS_SQL.format(neighbour_join=neighbour_join, keys=_comma_separated(message_ids))
        )
        return [key for (key,) in cursor.fetchall()]


def _key_condition(message_ids: Sequence[int]) -> Condition:
    return f"entry.message_id IN ({_comma_separated(message_ids)})", []


def _comma_separated(keys: Sequence[int]) -> str:
    return ", ".join(map(str, keys))


def _term_condition(scope_key: str, words: Sequence[str]) -> Condition:
    return _TERM_CONDITION_SQL[connection.vendor], [
        _OR[connection.vendor].join(_quoted_term(scope_key, word) for word in words)
    ]


def _quoted_term(scope_key: str, word: str) -> str:
    return _TERM_QUOTING[connection.vendor].format(f"{scope_key}.{word}")


def _read_and_cache(scope: Scope, stale_entry: tuple[CacheEntry, Version] | None) -> CandidateSet | None:
    """Read and cache every message of a small scope; return None if the scope is large.

    If messages were added and nothing else changed, only these are read. A set that still waits for vectors
    isn't cached, because vectors don't change the version.
    """
    if stale_entry is None and scope.count() > SMALL_SCOPE:
        return None
    # The version is read before the rows: what comes in between is read again for the next search.
    entry, version = stale_entry or (None, scope.version(newest_id=0))
    if version.messages > SMALL_SCOPE:
        # The scope is large now, and the larger it is, the longer reading its version takes. Without an entry
        # the next search only counts messages, up to the limit.
        with _lock:
            _cache.pop(_cache_key(scope), None)
        return None
    rows = _extended_rows(scope, version, entry) if entry else []
    candidates = CandidateSet(rows or scope.rows(scope.base_condition))
    if not candidates.has_all_vectors(model_name()):
        return candidates
    key = _cache_key(scope)
    with _lock:
        _cache[key] = CacheEntry(version, candidates)
        _cache.move_to_end(key)
        while len(_cache) > MAX_ENTRIES:
            _cache.popitem(last=False)
    return candidates


def _extended_rows(scope: Scope, version: Version, entry: CacheEntry) -> list[Row]:
    """Return the known rows and those added since, usually one turn; none if anything else has changed."""
    previous, old_candidates = entry
    if not version.extends(previous):
        return []
    # The newest of these may have come after their version was read.
    old_keys = set(old_candidates.message_ids.tolist())
    new_rows = scope.rows(scope.base_condition, ("entry.message_id > %s", [previous.newest_id or 0]))
    return [*old_candidates.rows, *(row for row in new_rows if row.message_id not in old_keys)]
