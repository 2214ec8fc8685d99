"""Score how well messages answer a question, with the same formula for both databases."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import log
from typing import NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from convo.search.dates import TIME_MARKER
from convo.search.embed import Vectors, unpack_vectors
from convo.search.words import stemmed_words

Numbers = NDArray[np.float64]

# The parameters of BM25. A message's neighbours count as part of it, with weights of their own before it and
# after it, the nearest first.
K1, B = 0.9, 0.4
WEIGHTS_BEFORE = (0.4, 0.28, 0.2, 0.14)
WEIGHTS_AFTER = (0.3, 0.15, 0.075, 0.04)
REACH = len(WEIGHTS_BEFORE)
# The words of a question count little for the question itself, and much for the message that answers it.
QUESTION_WEIGHT, ANSWER_WEIGHT = 0.3, 0.9

# The score is a sum of these parts, with these weights.
WEIGHTS = {"words": 20.0, "meaning": 1.0, "speaker": 2.0, "dates": 5.0, "times": 1.0, "asking": -3.0}
# The number of words whose occurrences a candidate set remembers: it may be searched for any number of words.
MAX_CACHED_WORDS = 200
# The parts that an evaluation can leave out of the score, or else what neighbours add to each of them.
PARTS = ("neighbours", *WEIGHTS)
# A message that states a time counts this many times as much if the question asks for one.
TIME_QUESTION_FACTOR = 3.0
# Fewer messages than this say too little about how similar a message is by chance.
FEW_MESSAGES = 50


class Meaning(NamedTuple):
    """The vectors of the candidates and of the question, and among few messages of unrelated sentences."""

    row_vectors: Vectors
    question_vector: Numbers
    unrelated_vectors: Vectors | None

    @property
    def nearness(self) -> Numbers:
        """Each row's similarity to the question above the unrelated sentences', in standard deviations."""
        assert self.unrelated_vectors is not None
        unrelated_similarity = self.unrelated_vectors @ self.question_vector
        return np.asarray(
            (self.row_vectors @ self.question_vector - unrelated_similarity.mean())
            / max(float(unrelated_similarity.std()), 0.01)
        )


class Row(NamedTuple):
    """The columns of an indexed message that the score needs."""

    message_id: int
    session_id: UUID | str  # in the database's own type, because it is only compared
    position: int
    statement_terms: str
    question_terms: str
    date_terms: str
    vector: bytes | memoryview | None
    model: str
    dim: int
    name: str
    item_id: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """A query, with the stemmed words, and the days and months, to look for."""

    text: str
    terms: Sequence[str]
    date_terms: Sequence[str] = ()
    asks_when: bool = False


@dataclass(frozen=True, kw_only=True)
class TermStats:
    """The number of messages, and of those that contain each word: the rarer a word, the more it counts."""

    counts: Mapping[str, int]
    total: int

    def weight(self, word: str) -> float:
        count = min(self.counts.get(word, 0), self.total)
        return log(1 + (self.total - count + 0.5) / (count + 0.5))


class CandidateSet:
    """The messages to be ranked, in the order of their sessions and positions."""

    def __init__(self, rows: Sequence[Row]) -> None:
        session_numbers: dict[UUID | str, int] = {}
        sessions = np.array(
            [session_numbers.setdefault(row.session_id, len(session_numbers)) for row in rows], dtype=np.int64
        )
        positions = np.array([row.position for row in rows], dtype=np.int64)
        order = np.lexsort((positions, sessions))
        self.rows = [rows[index] for index in order]
        self._vectors: dict[str, Vectors | None] = {}
        self.message_ids = np.array([row.message_id for row in self.rows], dtype=np.int64)
        self._sessions, self._positions = sessions[order], positions[order]
        # The distance of each row to the next one, to the one after that, and so on.
        self._distances = [self._distances_to(step) for step in range(1, min(REACH, len(rows) - 1) + 1)]
        # The weights by distance: a message is no neighbour of itself, nor is one that is too far away.
        before, after = (np.array([0.0, *weights, 0.0]) for weights in (WEIGHTS_BEFORE, WEIGHTS_AFTER))
        self._neighbour_weights = [(before[distances], after[distances]) for distances in self._distances]
        # A row's statements have an even index here, and its questions the odd one after it.
        texts = [text for row in self.rows for text in (row.statement_terms, row.question_terms)]
        self._text = JoinedTexts(texts)
        self.statement_lengths, self.question_lengths = self._text.lengths[0::2], self._text.lengths[1::2]

    @cached_property
    def speaker_names(self) -> set[str]:
        return {row.name for row in self.rows}

    @cached_property
    def states_time(self) -> Numbers:
        return np.array([row.date_terms.endswith(TIME_MARKER) for row in self.rows], dtype=float)

    @cached_property
    def _speaker_changes(self) -> NDArray[np.bool_]:
        return np.array([row.name != next_row.name for row, next_row in pairwise(self.rows)], dtype=bool)

    def vectors(self, model: str) -> Vectors | None:
        """Return the rows' vectors of this model, or None if no row has one."""
        if model not in self._vectors:
            dim = next((row.dim for row in self.rows if row.model == model), 0)
            blobs = [row.vector if row.model == model and row.dim == dim else None for row in self.rows]
            self._vectors[model] = unpack_vectors(blobs, dim) if dim else None
        return self._vectors[model]

    def has_all_vectors(self, model: str) -> bool:
        return all(row.model == model for row in self.rows)

    def occurrences(self, words: Sequence[str]) -> tuple[Numbers, Numbers]:
        """Return how often each row has each word in its statements, and how often in its questions."""
        counts = self._text.occurrences(words)
        return counts[0::2], counts[1::2]

    def term_stats(self, words: Sequence[str]) -> "TermStats":
        statement_counts, question_counts = self.occurrences(words)
        counts = np.count_nonzero(statement_counts + question_counts, axis=0)
        return TermStats(counts=dict(zip(words, counts.tolist(), strict=True)), total=len(self.rows))

    def _distances_to(self, step: int) -> NDArray[np.int64]:
        """Return the positions between each row and the row `step` further, or REACH + 1 if too far apart."""
        distances = np.minimum(self._positions[step:] - self._positions[:-step], REACH + 1)
        return np.where(self._sessions[step:] == self._sessions[:-step], distances, REACH + 1)

    def add_neighbours(self, values: Numbers) -> Numbers:
        """Add the weighted values of its neighbours to each row's value, along the first axis."""
        totals = values.astype(float, copy=True)
        shape = (-1,) + (1,) * (values.ndim - 1)
        for step, (weights_before, weights_after) in enumerate(self._neighbour_weights, 1):
            totals[step:] += weights_before.reshape(shape) * values[:-step]
            totals[:-step] += weights_after.reshape(shape) * values[step:]
        return totals

    def preceding_values(self, values: Numbers) -> Numbers:
        """Return for each row the value of the message right before it, or 0 if the speaker is the same."""
        previous_values = np.zeros_like(values, dtype=float)
        if self._distances:
            right_before = (self._distances[0] == 1) & self._speaker_changes
            previous_values[1:] = np.where(
                right_before.reshape((-1,) + (1,) * (values.ndim - 1)), values[:-1], 0
            )
        return previous_values


class JoinedTexts:
    """Many short texts joined to one string, because `str.find` is faster than a loop over the texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        self._counts_by_word: dict[str, Numbers] = {}
        # Each word has a space before and after it, and a newline separates the texts.
        self._starts = np.concatenate([[0], np.cumsum(lengths + 3)[:-1]])
        self._joined_text = " " + " \n ".join(texts) + " "
        self.lengths = np.array([text.count(" ") + bool(text) for text in texts], dtype=float)

    def occurrences(self, words: Sequence[str]) -> Numbers:
        # The result has a row per text and a column per word.
        columns = [self._counts_of(word) for word in words]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self._starts), 0))

    def _counts_of(self, word: str) -> Numbers:
        if word not in self._counts_by_word:
            if len(self._counts_by_word) >= MAX_CACHED_WORDS:
                self._counts_by_word.clear()
            offsets = list(self._offsets(f" {word} "))
            text_indexes = np.searchsorted(self._starts, offsets, side="right") - 1
            self._counts_by_word[word] = np.bincount(text_indexes, minlength=len(self._starts)).astype(float)
        return self._counts_by_word[word]

    def _offsets(self, needle: str) -> Iterator[int]:
        offset = self._joined_text.find(needle)
        while offset >= 0:
            yield offset
            offset = self._joined_text.find(needle, offset + len(needle) - 1)


def score_parts(
    candidates: CandidateSet,
    question: Question,
    term_stats: TermStats,
    meaning: Meaning | None,
    excluded_parts: Collection[str] = (),
) -> dict[str, Numbers]:
    """Return the weighted parts of each row's score; their sum is the score."""
    with_neighbours = "neighbours" not in excluded_parts
    named_speakers = _named_speakers(candidates, question.text)
    query_words = [word for word in question.terms if word not in named_speakers.name_stems]
    parts = {
        "words": score_words(candidates, query_words, term_stats, with_neighbours=with_neighbours),
        "meaning": score_meaning(candidates, meaning, with_neighbours=with_neighbours),
        "speaker": named_speakers.is_speaker,
        "dates": score_dates(candidates, question),
        "times": candidates.states_time * (TIME_QUESTION_FACTOR if question.asks_when else 1),
        "asking": candidates.question_lengths
        / np.maximum(candidates.statement_lengths + candidates.question_lengths, 1),
    }
    return {part: WEIGHTS[part] * values * (part not in excluded_parts) for part, values in parts.items()}


def score_words(
    candidates: CandidateSet,
    query_words: Sequence[str],
    term_stats: TermStats,
    *,
    with_neighbours: bool = True,
) -> Numbers:
    """Score the words by BM25F, divided by the weight of all words, so that long queries score no higher."""
    if not query_words:
        return np.zeros(len(candidates.rows))
    weights = {word: term_stats.weight(word) for word in query_words}
    # A word is looked up under a stem of each language, and no message contains most of these.
    matched_words = [word for word in query_words if term_stats.counts.get(word)]
    statement_counts, question_counts = candidates.occurrences(matched_words)
    frequencies = _in_context(candidates, statement_counts, question_counts, with_neighbours)
    lengths = _in_context(
        candidates, candidates.statement_lengths, candidates.question_lengths, with_neighbours
    )
    length_norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))
    saturated = frequencies * (K1 + 1) / (frequencies + length_norm[:, None])
    totals = saturated @ np.array([weights[word] for word in matched_words])
    return np.asarray(totals / max(sum(weights.values()), 1e-9))


def _in_context(
    candidates: CandidateSet, in_statements: Numbers, in_questions: Numbers, with_neighbours: bool
) -> Numbers:
    """Add up what counts for each row: its statements, less of its questions, and what stands around it.

    That is a part of its neighbours, and much of the question that it answers.
    """
    own = in_statements + QUESTION_WEIGHT * in_questions
    if not with_neighbours:
        return own
    return candidates.add_neighbours(own) + ANSWER_WEIGHT * candidates.preceding_values(in_questions)


def score_meaning(
    candidates: CandidateSet, meaning: Meaning | None, *, with_neighbours: bool = True
) -> Numbers:
    """Score how similar each row's vector is to the question's, in standard deviations; 0 without a vector.

    These are deviations from the mean of the candidates, or of unrelated sentences if there are few messages.
    """
    if meaning is None or not meaning.row_vectors.any():
        return np.zeros(len(candidates.rows))
    has_vector = meaning.row_vectors.any(axis=1)
    is_among_few = meaning.unrelated_vectors is not None
    # A row without a vector adds nothing to its neighbours: its similarity to anything is zero.
    values = (
        np.where(has_vector, meaning.nearness, 0.0)
        if is_among_few
        else meaning.row_vectors @ meaning.question_vector
    )
    if with_neighbours:
        values = candidates.add_neighbours(values)
    if not is_among_few:
        values = (values - values[has_vector].mean()) / max(float(values[has_vector].std()), 0.01)
    return np.where(has_vector, values, 0.0)


def score_dates(candidates: CandidateSet, question: Question) -> Numbers:
    if not question.date_terms:
        return np.zeros(len(candidates.rows))
    # A month is the beginning of each of its days, so a month also matches a message of one of its days.
    is_match = [any(day in row.date_terms for day in question.date_terms) for row in candidates.rows]
    return np.array(is_match, dtype=float)


class _NamedSpeakers(NamedTuple):
    is_speaker: Numbers
    name_stems: set[str]


def _named_speakers(candidates: CandidateSet, text: str) -> _NamedSpeakers:
    """Find the speakers whom the question names: which rows are theirs, and the stems of their names."""
    query_words = set(re.findall(r"\w+", text.lower()))
    speakers = {name for name in candidates.speaker_names if query_words & set(name.lower().split())}
    is_speaker = np.array([row.name in speakers for row in candidates.rows], dtype=float)
    return _NamedSpeakers(is_speaker, {stem for name in speakers for stem in stemmed_words(name)})
