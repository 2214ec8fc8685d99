"""Measure how much evidence reaches the prompt at different budgets, and how much a plain window holds."""

import statistics
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from django.contrib.auth.models import User

from convo import agents, search, tokens, turns
from convo.context import Prompt
from convo.evaluation import locomo, report
from convo.evaluation.locomo import DataSet, DataSetQuestion
from convo.models import Message, Person, Session

BUDGETS = (1_000, 2_000, 4_000, 8_000)
SEARCH_LIMIT = 25


class BudgetResult(NamedTuple):
    """The figures for one budget: shares of the evidence in per cent, and the time of a prompt."""

    budget: int
    prompt: float  # of all evidence
    found: float  # of the evidence among the first 25 hits of search
    window: float  # of all evidence, for a prompt of the newest messages that fit, as if in one session
    milliseconds: float


def measure(loaded: DataSet, *, question_limit: int | None = None) -> Iterator[BudgetResult]:
    """Ask each question in a new session of the same person, as a returning user would."""
    questions = locomo.spread(loaded.questions, question_limit or len(loaded.questions))
    keys_by_position = _keys_by_position(loaded.owner)
    sessions = {
        question.person: turns.store_session(turns.new_session(loaded.owner, question.person.ref))[0]
        for question in questions
    }
    found_evidence = [_found_evidence(question, loaded.owner) for question in questions]
    for budget in BUDGETS:
        windows = {person: _window(person, loaded.owner, budget) for person in sessions}
        prompts, milliseconds = _prompts(questions, sessions, budget)
        quoted_messages = [_quoted_messages(prompt, keys_by_position) for prompt in prompts]
        yield BudgetResult(
            budget=budget,
            prompt=_mean_share(
                (question.evidence, quoted)
                for question, quoted in zip(questions, quoted_messages, strict=True)
            ),
            found=_mean_share(zip(found_evidence, quoted_messages, strict=True)),
            window=_mean_share((question.evidence, windows[question.person]) for question in questions),
            milliseconds=milliseconds,
        )


def _prompts(
    questions: Sequence[DataSetQuestion], sessions: Mapping[Person, Session], budget: int
) -> tuple[list[Prompt], float]:
    prompts, milliseconds = [], []
    for question in questions:
        start = time.perf_counter()
        prompts.append(turns.preview(sessions[question.person], question.text, max_tokens=budget))
        milliseconds.append(1000 * (time.perf_counter() - start))
    return prompts, statistics.median(milliseconds)


def _found_evidence(question: DataSetQuestion, owner: User) -> frozenset[int]:
    hits = search.find(question.person, owner, question.text, limit=SEARCH_LIMIT, neighbours=0)
    return question.evidence & {hit.message_id for hit in hits}


def _quoted_messages(prompt: Prompt, keys_by_position: Mapping[tuple[str, int], int]) -> set[int]:
    return {
        keys_by_position[source["session"], source["position"]]
        for part in prompt.manifest["parts"]
        for source in part.get("sources", ())
        if "position" in source
    }


def _window(person: Person, owner: User, budget: int) -> set[int]:
    """Return the newest messages of this person that fit the budget together with the instructions."""
    agent = agents.get(agents.default_name())
    instruction_tokens = tokens.count(agent.instructions, agent.model_name)
    remaining = budget - instruction_tokens - tokens.MESSAGE_OVERHEAD - tokens.REPLY_OVERHEAD
    message_keys: set[int] = set()
    for row in Message.objects.filter(session__owner=owner, session__person=person).order_by(
        "-created_at", "-id"
    ):
        remaining -= row.tokens + tokens.MESSAGE_OVERHEAD
        if remaining < 0:
            break
        message_keys.add(row.pk)
    return message_keys


def _keys_by_position(owner: User) -> dict[tuple[str, int], int]:
    rows = Message.objects.filter(session__owner=owner).values_list("pk", "session_id", "position")
    return {(str(UUID(str(session))), position): pk for pk, session, position in rows}


def _mean_share(pairs: Iterable[tuple[Collection[int], Collection[int]]]) -> float:
    """Return the mean share of the first of each pair that is in the second, in per cent."""
    shares = [len(set(expected) & set(actual)) / len(expected) for expected, actual in pairs if expected]
    return 100 * statistics.fmean(shares) if shares else 0.0


def table(rows: Sequence[BudgetResult]) -> str:
    found_heading = f"of search's first {SEARCH_LIMIT} hits"
    headings = ("tokens", "evidence", found_heading, "newest messages alone", "ms per prompt")
    return report.table("Evidence that reaches the prompt, in per cent", headings, rows)
