"""Find the earlier messages and the memories that answer a question."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import log10
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from django.db.models import F
from numpy.typing import NDArray

from convo.errors import NotSearchable
from convo.history import TranscriptMessage
from convo.history.statements import IndexEntry
from convo.models import IndexedMemory, Person, Session, UserMemory
from convo.search import dates, embed, score
from convo.search.candidates import cached_entry, select_candidates
from convo.search.embed import remove_names
from convo.search.load import LoadedMessages, load_messages, load_with_version
from convo.search.scope import Scope
from convo.search.score import CandidateSet, Question, Row, TermStats
from convo.search.words import matching_spans, search_words

MAX_QUERY_LENGTH = 1000
# A message that shares no word with the question, and has no neighbour that does, is found if its similarity
# lies this many standard deviations above the mean. The second threshold holds if no message shares a word,
# because then the question may be about something that was never mentioned.
SIMILARITY_THRESHOLD, SIMILARITY_THRESHOLD_WITHOUT_WORDS = 1.0, 3.0
# Among few messages the similarity is compared with that of unrelated sentences instead, in standard
# deviations of theirs. The second threshold again holds if no message shares a word. It rises with each
# tenfold of messages, because the more there are, the nearer some are by chance.
SIMILARITY_THRESHOLD_IN_FEW, SIMILARITY_THRESHOLD_IN_FEW_WITHOUT_WORDS = 2.5, 3.4
THRESHOLD_RISE_PER_TENFOLD = 0.25


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A message that a search found, with its score and the messages before and after it."""

    message_id: int
    item_id: str
    session_id: UUID
    turn_number: int
    position: int
    role: str
    name: str
    agent: str
    content: str
    created_at: datetime
    score: float
    parts: Mapping[str, float]
    before: Sequence[TranscriptMessage] = ()
    after: Sequence[TranscriptMessage] = ()
    query_words: frozenset[str] = frozenset()

    @property
    def highlights(self) -> list[tuple[int, int]]:
        return matching_spans(self.content, self.query_words)


def find(
    person: Person | None,
    owner: Any,
    query: str,
    *,
    session: Session | None = None,
    agent: str = "",
    after: datetime | None = None,
    before: datetime | None = None,
    before_position: int | None = None,
    limit: int = 10,
    neighbours: int = 2,
    excluded_parts: Collection[str] = (),
) -> list[Hit]:
    """Return the messages that answer the query best, the best first.

    The search covers the session, or else the person, or else everything of the owner. `excluded_parts`
    leaves out parts of the score, to measure what each contributes.

    A person without a ref is nobody in particular, so that person's sessions have nothing in common. Such a
    person, or one who was never saved, has no messages to find unless a session is given.
    """
    if session is not None and session.storage != Session.Storage.PERSISTENT:
        raise NotSearchable
    if person is not None and session is None and not (person.pk and person.ref):
        return []
    scope = Scope(
        owner=owner,
        person=person,
        session=session,
        agent=agent,
        after=after,
        before=before,
        before_position=before_position,
    )
    question, stale_entry = parse_question(query), None
    # Most scopes have not changed since the last search, so what is cached is ranked before it is checked.
    if entry := cached_entry(scope):
        term_stats = entry.candidates.term_stats(question.terms)
        ranked_rows = rank(entry.candidates, question, term_stats, limit, excluded_parts)
        newest_id = entry.version.newest_id or 0
        version, messages = load_with_version(scope, newest_id, _message_ids(ranked_rows), neighbours)
        if version.equals(entry.version):
            return _hits(question, ranked_rows, messages, neighbours)
        stale_entry = entry, version
    candidates, term_stats = select_candidates(scope, question, stale_entry)
    ranked_rows = rank(candidates, question, term_stats, limit, excluded_parts)
    messages = load_messages(_message_ids(ranked_rows), neighbours, before_position)
    return _hits(question, ranked_rows, messages, neighbours)


def parse_question(query: str) -> Question:
    text = query[:MAX_QUERY_LENGTH]
    today = datetime.now(UTC).date()
    return Question(
        text=text,
        terms=search_words(text),
        date_terms=dates.query_days(text, today),
        asks_when=dates.asks_when(text),
    )


class RankedRow(NamedTuple):
    """A row with its score, and the parts that add up to it."""

    row: Row
    score: float
    parts: Mapping[str, float]


def rank(
    candidates: CandidateSet,
    question: Question,
    term_stats: TermStats,
    limit: int,
    excluded_parts: Collection[str] = (),
) -> list[RankedRow]:
    """Return the best rows. Of an item and its copies in forks, only one is returned."""
    if not candidates.rows:
        return []
    meaning = None if "meaning" in excluded_parts else _meaning(candidates, question, term_stats)
    parts = score.score_parts(candidates, question, term_stats, meaning, excluded_parts)
    total = np.sum(list(parts.values()), axis=0)
    is_hit = (parts["words"] > 0) | (parts["dates"] > 0) | _similarity_mask(candidates, meaning, parts)
    return [
        RankedRow(
            candidates.rows[index],
            round(float(total[index]), 4),
            {name: value for name, values in parts.items() if (value := round(float(values[index]), 4))},
        )
        for index in _best_indexes(candidates, is_hit, total, limit)
    ]


def _best_indexes(
    candidates: CandidateSet, is_hit: NDArray[np.bool_], total: score.Numbers, limit: int
) -> list[int]:
    """Return the indexes of the hits with the highest totals; of two with the same, the older comes first."""
    hits = np.flatnonzero(is_hit)
    # The last key is the first to be compared.
    in_order = hits[np.lexsort((candidates.message_ids[hits], -total[hits]))]
    best: dict[str, int] = {}
    for index in in_order.tolist():
        best.setdefault(candidates.rows[index].item_id, index)
        if len(best) == limit:
            break
    return list(best.values())


def _similarity_mask(
    candidates: CandidateSet, meaning: score.Meaning | None, parts: Mapping[str, score.Numbers]
) -> NDArray[np.bool_]:
    """Return a mask of the messages that are similar enough to be found without a word of the question."""
    some_share_words = parts["words"].any()
    if meaning is None or meaning.unrelated_vectors is None:
        threshold = SIMILARITY_THRESHOLD if some_share_words else SIMILARITY_THRESHOLD_WITHOUT_WORDS
        # This part has the weight 1, so it is in standard deviations, as the threshold is.
        return parts["meaning"] >= threshold
    threshold = SIMILARITY_THRESHOLD_IN_FEW
    if not some_share_words:
        rise = THRESHOLD_RISE_PER_TENFOLD * log10(len(candidates.rows))
        threshold = SIMILARITY_THRESHOLD_IN_FEW_WITHOUT_WORDS + rise
    # A message's neighbours don't count here: among few messages they are most of what there is.
    return meaning.row_vectors.any(axis=1) & (meaning.nearness >= threshold)


def _meaning(candidates: CandidateSet, question: Question, term_stats: TermStats) -> score.Meaning | None:
    vectors = candidates.vectors(embed.model_name())
    if vectors is None:
        return None
    query_vectors = embed.embed([remove_names(candidates.speaker_names, question.text)])
    if query_vectors is None or query_vectors.shape[1] != vectors.shape[1]:
        return None
    unrelated_vectors = embed.unrelated_vectors() if term_stats.total < score.FEW_MESSAGES else None
    is_comparable = unrelated_vectors is not None and unrelated_vectors.shape[1] == vectors.shape[1]
    return score.Meaning(vectors, query_vectors[0], unrelated_vectors if is_comparable else None)


def _message_ids(ranked_rows: Sequence[RankedRow]) -> list[int]:
    return [result.row.message_id for result in ranked_rows]


def _hits(
    question: Question, ranked_rows: Sequence[RankedRow], messages: LoadedMessages, neighbours: int
) -> list[Hit]:
    query_words = frozenset(question.terms)
    # A message that was deleted or forgotten after it was ranked is no longer among those loaded.
    results = [
        (message, result)
        for result in ranked_rows
        if (message := messages.get(result.row.session_id, result.row.position))
    ]
    return [
        Hit(
            message_id=message.message_id,
            item_id=message.item_id,
            session_id=message.session_id,
            turn_number=message.turn_number,
            position=message.position,
            role=message.role,
            name=message.name,
            agent=message.agent,
            content=message.content,
            created_at=message.created_at,
            score=result.score,
            parts=result.parts,
            before=messages.neighbours(message, range(-neighbours, 0)),
            after=messages.neighbours(message, range(1, neighbours + 1)),
            query_words=query_words,
        )
        for message, result in results
    ]


def find_memories(person: Person, query: str, *, limit: int = 10) -> list[tuple[int, float]]:
    """Return the person's active memories that match the query, as (primary key, score), the best first."""
    # A memory that changed since it was indexed is left out until it is indexed again.
    index_rows = IndexedMemory.objects.filter(
        person=person, memory__status=UserMemory.Status.ACTIVE, memory__text_key=F("text_key")
    )
    return rank_memories(index_rows.values_list("memory_id", "terms", "vector", "model", "dim"), query, limit)


def rank_memories(index_entries: Iterable[IndexEntry], query: str, limit: int) -> list[tuple[int, float]]:
    """Return those of these memories that match the query, as (primary key, score), the best first."""
    question = parse_question(query)
    rows = [
        Row(
            message_id=pk,
            session_id="",
            # Memories have no neighbours, so their positions are too far apart for that.
            position=pk * (score.REACH + 1),
            statement_terms=terms,
            question_terms="",
            date_terms="",
            vector=vector,
            model=model,
            dim=dim,
            name="",
            item_id=str(pk),
        )
        for pk, terms, vector, model, dim in index_entries
    ]
    candidates = CandidateSet(rows)
    results = rank(candidates, question, candidates.term_stats(question.terms), limit)
    return [(result.row.message_id, result.score) for result in results]
