"""Find: what was said before that answers a question, with the lines around it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from django.db.models import F

from convo.errors import NotSearchable
from convo.history import Line
from convo.models import IndexedMemory, Person, Session, UserMemory
from convo.search import dates, embed, score
from convo.search.embed import without
from convo.search.propose import propose
from convo.search.score import Pool, Question, Rarity, Row
from convo.search.shown import shown
from convo.search.where import Where
from convo.search.words import asked_words, spans

LONGEST = 1000
# A message without a word of the question is found when it means more of it than most do; much more where
# none has one, for then the question may be about nothing that was ever said.
NEAR, NEARER = 1.0, 3.0


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A message that was found: how well it answers and why, and the lines before and after it."""

    message_id: int
    item_id: str
    session_id: UUID
    turn: int
    position: int
    role: str
    name: str
    agent: str
    content: str
    created_at: datetime
    score: float
    parts: Mapping[str, float]
    before: Sequence[Line] = ()
    after: Sequence[Line] = ()
    wanted: frozenset[str] = frozenset()

    @property
    def highlights(self) -> list[tuple[int, int]]:
        """Where in the text the words stand that were looked for."""
        return spans(self.content, self.wanted)


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
    without: Collection[str] = (),
) -> list[Hit]:
    """The messages that answer best, the best first: of one person, of all of an owner's, or of one session.

    `without` leaves out terms of the score, to see what they are worth.

    Nobody's sessions have nothing in common: without a session nothing is found of nobody, or of a stranger.
    """
    if session is not None and session.storage != Session.Storage.KEPT:
        raise NotSearchable
    if person is not None and session is None and not (person.pk and person.ref):
        return []
    where = Where(
        owner=owner,
        person=person,
        session=session,
        agent=agent,
        after=after,
        before=before,
        before_position=before_position,
    )
    question = ask(query)
    pool, rarity = propose(where, question)
    return _hits(where, question, ranked(pool, question, rarity, limit, without), neighbours)


def ask(query: str) -> Question:
    """A question as search reads it."""
    text = query[:LONGEST]
    today = datetime.now(UTC).date()
    return Question(
        text=text,
        words=asked_words(text),
        days=dates.wanted(text, today),
        asks_when=dates.asks_when(text),
    )


class Ranked(NamedTuple):
    """A message with its score, and the terms that add up to it."""

    row: Row
    score: float
    parts: Mapping[str, float]


def ranked(
    pool: Pool, question: Question, rarity: Rarity, limit: int, without: Collection[str] = ()
) -> list[Ranked]:
    """The best of these messages; a copy of one that is there is left out."""
    if not pool.rows:
        return []
    terms = score.scores(pool, question, rarity, _meaning(pool, question), without)
    table = np.stack(list(terms.values()))
    total = table.sum(axis=0)
    said = terms["words"].any()
    answers = (terms["words"] > 0) | (terms["dates"] > 0) | (terms["meaning"] >= (NEAR if said else NEARER))
    candidates = np.flatnonzero(answers)
    best: dict[str, int] = {}
    for at in candidates[np.lexsort((pool.keys[candidates], -total[candidates]))].tolist():
        best.setdefault(pool.rows[at].item_id, at)
        if len(best) == limit:
            break
    found = list(best.values())
    scores, parts = total[found].round(4).tolist(), table[:, found].T.round(4).tolist()
    return [
        Ranked(
            pool.rows[at], score, {term: value for term, value in zip(terms, values, strict=True) if value}
        )
        for at, score, values in zip(found, scores, parts, strict=True)
    ]


def _meaning(pool: Pool, question: Question) -> tuple[Any, Any] | None:
    vectors = pool.vectors(embed.model_name())
    if vectors is None:
        return None
    asked = embed.embed([without(pool.names, question.text)])
    if asked is None or asked.shape[1] != vectors.shape[1]:
        return None
    return vectors, asked[0]


def _hits(where: Where, question: Question, ranking: Sequence[Ranked], neighbours: int) -> list[Hit]:
    said = shown([one.row.message_id for one in ranking], neighbours, where.before_position)
    wanted = frozenset(question.words)
    # What was deleted or forgotten since it was read is not there any more.
    there = [(found, one) for one in ranking if (found := said.at(one.row.session, one.row.position))]
    return [
        Hit(
            message_id=found.message_id,
            item_id=found.item_id,
            session_id=found.session_id,
            turn=found.number,
            position=found.position,
            role=found.role,
            name=found.name,
            agent=found.agent,
            content=found.content,
            created_at=found.created_at,
            score=one.score,
            parts=one.parts,
            before=said.around(found, range(-neighbours, 0)),
            after=said.around(found, range(1, neighbours + 1)),
            wanted=wanted,
        )
        for found, one in there
    ]


def find_memories(person: Person, query: str, *, limit: int = 10) -> list[tuple[int, float]]:
    """The person's active memories that bear on a question, as (primary key, score), the best first."""
    question = ask(query)
    # One that was changed since it was indexed waits until that is done again.
    known = IndexedMemory.objects.filter(
        person=person, memory__status=UserMemory.Status.ACTIVE, memory__text_key=F("text_key")
    )
    values = known.values_list("memory_id", "words", "vector", "model", "dim")
    # Facts stand for themselves: far apart, so that none is another one's neighbour.
    rows = [
        Row(pk, 0, pk * 100, words, "", "", vector, model, dim, "", str(pk))
        for pk, words, vector, model, dim in values
    ]
    pool = Pool(rows)
    found = ranked(pool, question, pool.rarity(question.words), limit)
    return [(one.row.message_id, one.score) for one in found]
