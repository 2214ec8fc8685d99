"""How well messages answer a question: one scorer for both databases, over the messages that they propose."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import log
from typing import Any, NamedTuple

import numpy as np

from convo.search import words
from convo.search.dates import WHEN
from convo.search.embed import Vectors, unpacked

Numbers = np.ndarray[Any, np.dtype[np.float64]]

# BM25, with a message's neighbours counting as part of it: so many messages back and on, so much each.
K1, B = 0.9, 0.4
BACK = (0.4, 0.28, 0.2, 0.14)
ON = (0.3, 0.15, 0.075, 0.04)
REACH = len(BACK)
# A question counts little for itself, and much for the answer that it gets.
ASKS, ANSWERS = 0.3, 0.9

# What the terms weigh against each other.
WEIGHTS = {
    "words": 20.0,
    "meaning": 1.0,
    "speaker": 2.0,
    "dates": 5.0,
    "times": 1.0,
    "asking": -3.0,
}
# So many words' places are known at a time: a pool may be asked about any number of them.
MOST_WORDS = 200
# What a score can be looked at without.
TERMS = ("neighbours", *WEIGHTS)
# To a question for a time an answer that tells one weighs more.
ASKED_WHEN = 3.0


class Row(NamedTuple):
    """A message of the index, as much of it as the scorer needs."""

    message_id: int
    session: Any  # as the database gives it: only compared
    position: int
    words: str
    asked: str
    days: str
    vector: bytes | memoryview | None
    model: str
    dim: int
    name: str
    item_id: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is looked for."""

    text: str
    words: Sequence[str]
    days: Sequence[str] = ()
    asks_when: bool = False


@dataclass(frozen=True, kw_only=True)
class Rarity:
    """In how many messages a word stands, of how many; of that follows what it says."""

    counts: Mapping[str, int]
    total: int

    def of(self, word: str) -> float:
        count = min(self.counts.get(word, 0), self.total)
        return log(1 + (self.total - count + 0.5) / (count + 0.5))


class Pool:
    """The messages to be ranked, in the order of their sessions and positions."""

    def __init__(self, rows: Sequence[Row]) -> None:
        numbers: dict[Any, int] = {}
        sessions = np.array([numbers.setdefault(row.session, len(numbers)) for row in rows], dtype=np.int64)
        positions = np.array([row.position for row in rows], dtype=np.int64)
        order = np.lexsort((positions, sessions))
        self.rows = [rows[at] for at in order]
        self._vectors: dict[str, Vectors | None] = {}
        self.keys = np.array([row.message_id for row in self.rows], dtype=np.int64)
        self._sessions, self._positions = sessions[order], positions[order]
        self._steps = [self._apart(step) for step in range(1, min(REACH, len(rows) - 1) + 1)]
        back, on = (np.array([0.0, *weights, 0.0]) for weights in (BACK, ON))
        self._weights = [(back[apart], on[apart]) for apart in self._steps]
        self._text = Text([text for row in self.rows for text in (row.words, row.asked)])
        self.told, self.asked = self._text.lengths[0::2], self._text.lengths[1::2]

    @cached_property
    def names(self) -> set[str]:
        """Who speaks in them."""
        return {row.name for row in self.rows}

    @cached_property
    def times(self) -> Numbers:
        """Which rows tell a time."""
        return np.array([row.days.endswith(WHEN) for row in self.rows], dtype=float)

    @cached_property
    def _changes(self) -> Any:
        """Between which rows and the next one the speaker changes."""
        return np.array([one.name != other.name for one, other in pairwise(self.rows)], dtype=bool)

    def vectors(self, model: str) -> Vectors | None:
        """The rows' vectors of this model; None when it made none of them."""
        if model not in self._vectors:
            dim = next((row.dim for row in self.rows if row.model == model), 0)
            stored = [row.vector if row.model == model and row.dim == dim else None for row in self.rows]
            self._vectors[model] = unpacked(stored, dim) if dim else None
        return self._vectors[model]

    def whole(self, model: str) -> bool:
        """Has each row its vector of this model?"""
        return all(row.model == model for row in self.rows)

    def occurrences(self, words: Sequence[str]) -> tuple[Numbers, Numbers]:
        """How often each row states each of these words, and how often it asks with it."""
        found = self._text.occurrences(words)
        return found[0::2], found[1::2]

    def rarity(self, words: Sequence[str]) -> "Rarity":
        """How rare these words are among these rows."""
        told, asked = self.occurrences(words)
        counts = np.count_nonzero(told + asked, axis=0)
        return Rarity(counts=dict(zip(words, counts.tolist(), strict=True)), total=len(self.rows))

    def _apart(self, step: int) -> Any:
        """How many positions each row and the one so many rows on are apart; REACH + 1 for too many."""
        apart = np.minimum(self._positions[step:] - self._positions[:-step], REACH + 1)
        return np.where(self._sessions[step:] == self._sessions[:-step], apart, REACH + 1)

    def around(self, values: Numbers) -> Numbers:
        """Each row's value and, each with its weight, those of its neighbours; along the first axis."""
        found = values.astype(float, copy=True)
        shape = (-1,) + (1,) * (values.ndim - 1)
        for step, (back, on) in enumerate(self._weights, 1):
            found[step:] += back.reshape(shape) * values[:-step]
            found[:-step] += on.reshape(shape) * values[step:]
        return found

    def after(self, values: Numbers) -> Numbers:
        """The value of the message right before each row, where somebody else said it."""
        found = np.zeros_like(values, dtype=float)
        if self._steps:
            right_before = (self._steps[0] == 1) & self._changes
            found[1:] = np.where(right_before.reshape((-1,) + (1,) * (values.ndim - 1)), values[:-1], 0)
        return found


class Text:
    """Many short texts as one, in which a word is found at the speed of the machine."""

    def __init__(self, texts: Sequence[str]) -> None:
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        # A space before each word and after it, and one more between texts.
        self._found: dict[str, Numbers] = {}
        self._starts = np.concatenate([[0], np.cumsum(lengths + 3)[:-1]])
        self._whole = " " + " \n ".join(texts) + " "
        self.lengths = np.array([text.count(" ") + bool(text) for text in texts], dtype=float)

    def occurrences(self, words: Sequence[str]) -> Numbers:
        """How often each text has each word: a row a text, a column a word."""
        columns = [self._column(word) for word in words]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self._starts), 0))

    def _column(self, word: str) -> Numbers:
        if word not in self._found:
            if len(self._found) >= MOST_WORDS:
                self._found.clear()
            places = list(self._places(f" {word} "))
            texts = np.searchsorted(self._starts, places, side="right") - 1
            self._found[word] = np.bincount(texts, minlength=len(self._starts)).astype(float)
        return self._found[word]

    def _places(self, spaced: str) -> Iterator[int]:
        at = self._whole.find(spaced)
        while at >= 0:
            yield at
            at = self._whole.find(spaced, at + len(spaced) - 1)


def scores(
    pool: Pool,
    question: Question,
    rarity: Rarity,
    meaning: tuple[Vectors, Numbers] | None,
    without: Collection[str] = (),
) -> dict[str, Numbers]:
    """The terms of each row's score, weighted; their sum ranks."""
    around = "neighbours" not in without
    named = _named(pool, question.text)
    told = [word for word in question.words if word not in named.stems]
    found = {
        "words": by_words(pool, told, rarity, around=around),
        "meaning": by_meaning(pool, meaning, around=around),
        "speaker": named.speaks,
        "dates": by_dates(pool, question),
        "times": pool.times * (ASKED_WHEN if question.asks_when else 1),
        "asking": pool.asked / np.maximum(pool.told + pool.asked, 1),
    }
    return {term: WEIGHTS[term] * values * (term not in without) for term, values in found.items()}


def by_words(pool: Pool, asked_for: Sequence[str], rarity: Rarity, *, around: bool = True) -> Numbers:
    """BM25F of the words asked for, as a share of what all of them together are worth."""
    if not asked_for:
        return np.zeros(len(pool.rows))
    worth = {word: rarity.of(word) for word in asked_for}
    # Of the stems that a word may have, most were never said here.
    said = [word for word in asked_for if rarity.counts.get(word)]
    told, asked = pool.occurrences(said)
    heard = told + ASKS * asked
    seen, lengths = heard, pool.told + ASKS * pool.asked
    if around:
        seen = pool.around(seen) + ANSWERS * pool.after(asked)
        lengths = pool.around(lengths) + ANSWERS * pool.after(pool.asked)
    norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))
    found = (seen * (K1 + 1) / (seen + norm[:, None])) @ np.array([worth[word] for word in said])
    return np.asarray(found / max(sum(worth.values()), 1e-9))


def by_meaning(pool: Pool, meaning: tuple[Vectors, Numbers] | None, *, around: bool = True) -> Numbers:
    """How near each row's vector is to the question's, in standard deviations of this pool."""
    if meaning is None:
        return np.zeros(len(pool.rows))
    vectors, question = meaning
    near = vectors @ question
    known = vectors.any(axis=1)
    smooth = pool.around(near) if around else near
    if not known.any():
        return np.zeros(len(pool.rows))
    mean, deviation = smooth[known].mean(), max(float(smooth[known].std()), 0.01)
    return np.where(known, (smooth - mean) / deviation, 0.0)


def by_dates(pool: Pool, question: Question) -> Numbers:
    """Is the message from a day that the question names, or does it speak of it?"""
    if not question.days:
        return np.zeros(len(pool.rows))
    # A month is the beginning of each of its days.
    return np.array([any(day in row.days for day in question.days) for row in pool.rows], dtype=float)


class _Named(NamedTuple):
    speaks: Numbers
    stems: set[str]


def _named(pool: Pool, text: str) -> _Named:
    """Who of the speakers the question names: their messages, and the words that name them."""
    asked = set(re.findall(r"\w+", text.lower()))
    called = {name for name in pool.names if asked & set(name.lower().split())}
    speaks = np.array(
        [row.name in called for row in pool.rows] if called else [0] * len(pool.rows), dtype=float
    )
    return _Named(speaks, {stem for name in called for stem in words.words(name)})
