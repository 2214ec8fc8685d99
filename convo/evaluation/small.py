"""Measure search among few messages, with questions that these answer and questions that they don't."""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from convo import search, turns
from convo.evaluation import locomo, report
from convo.evaluation.locomo import DataSet, DataSetQuestion
from convo.history import NewMessage
from convo.models import Message, Person
from convo.search import Hit

SIZES = (1, 3, 10, 30)
QUESTIONS = 200


class SmallResult(NamedTuple):
    """The figures for people with this many messages: shares of the questions, in per cent."""

    messages: int
    questions: int
    answered: float  # the evidence is found
    wordless: int  # questions that share no word with any message
    wordless_answered: float
    unrelated: float  # a question about another conversation finds something
    unrelated_by_meaning: float  # it finds a message that shares no word with it


def measure(loaded: DataSet, *, question_limit: int = QUESTIONS) -> Iterator[SmallResult]:
    """Ask each question of a new person, who has only the evidence and the messages around it."""
    rng = random.Random(4)
    eligible_questions = [question for question in loaded.questions if len(question.evidence) == 1]
    questions = locomo.spread(eligible_questions, question_limit)
    for size in SIZES:
        people = [_person(loaded, question, size, rng) for question in questions]
        locomo.index(loaded.owner)
        answers, wordless_answers, unrelated_hits = [], [], []
        for question, (person, evidence) in zip(questions, people, strict=True):
            hits = _ask(loaded, person, question)
            answers.append(any(hit.message_id == evidence for hit in hits))
            if not any(map(_shares_words, hits)):
                wordless_answers.append(answers[-1])
            unrelated_question = rng.choice(
                [other_question for other_question in questions if other_question.person != question.person]
            )
            unrelated_hits.append(_ask(loaded, person, unrelated_question))
        yield SmallResult(
            messages=size,
            questions=len(questions),
            answered=_percentage(answers),
            wordless=len(wordless_answers),
            wordless_answered=_percentage(wordless_answers),
            unrelated=_percentage([bool(hits) for hits in unrelated_hits]),
            unrelated_by_meaning=_percentage([not all(map(_shares_words, hits)) for hits in unrelated_hits]),
        )


def table(rows: Sequence[SmallResult]) -> str:
    headings = ("messages", "questions", "answered", "no shared word", "of these answered")
    return report.table(
        "Questions that find something among few messages, in per cent",
        (*headings, "unrelated", "by meaning"),
        rows,
    )


def _person(loaded: DataSet, question: DataSetQuestion, size: int, rng: random.Random) -> tuple[Person, int]:
    """Return a person with only the evidence and the messages around it, and the evidence's new key."""
    (key,) = question.evidence
    evidence_row = Message.objects.get(pk=key)
    rows = list(Message.objects.filter(session=evidence_row.session_id).order_by("position"))
    index = next(number for number, row in enumerate(rows) if row.pk == key)
    start = max(0, min(index - rng.randrange(size), len(rows) - size))
    excerpt = rows[start : start + size]
    person = Person.objects.get_or_create_by_ref(loaded.owner, f"little {size} {key} {rng.random()}")
    session, _ = turns.store_session(turns.new_session(loaded.owner, person.ref))
    messages = [NewMessage(role="user", name=row.name, content=row.content) for row in excerpt]
    return person, turns.record(session, messages)[index - start].pk


def _ask(loaded: DataSet, person: Person, question: DataSetQuestion) -> list[Hit]:
    return search.find(person, loaded.owner, question.text, limit=50, neighbours=0)


def _shares_words(hit: Hit) -> bool:
    return "words" in hit.parts or "dates" in hit.parts


def _percentage(outcomes: Sequence[bool]) -> float:
    return 100 * sum(outcomes) / len(outcomes) if outcomes else 0.0
