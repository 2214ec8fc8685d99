"""How much of the evidence reaches the prompt at different budgets, and how much a plain window holds."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from convo import agents, search, tokens, turns
from convo.context import Prompt
from convo.evaluation.locomo import Asked, Loaded
from convo.models import Message, Person, Session

BUDGETS = (1_000, 2_000, 4_000, 8_000)
FOUND = 25


@dataclass(frozen=True, kw_only=True)
class Reached:
    """For one budget: shares of the evidence, in per cent, and how long a prompt took."""

    budget: int
    prompt: float  # of all evidence
    found: float  # of the evidence that search has among its first 25
    window: float  # of all evidence: the newest turns that fit, had it all been one session
    milliseconds: float


def reached(loaded: Loaded, *, most: int | None = None) -> Iterator[Reached]:
    """Ask each question in a new session of the same person, as somebody would who comes back."""
    questions = loaded.questions[:: max(1, len(loaded.questions) // most)] if most else loaded.questions
    places = _places(loaded.owner)
    sessions = {
        question.person: turns.stored(turns.new_session(loaded.owner, question.person.ref))[0]
        for question in questions
    }
    found = [_found(question, loaded.owner) for question in questions]
    for budget in BUDGETS:
        windows = {person: _window(person, loaded.owner, budget) for person in sessions}
        prompts, took = _prompts(questions, sessions, budget)
        told = [_told(prompt, places) for prompt in prompts]
        yield Reached(
            budget=budget,
            prompt=_share(
                (question.evidence, there) for question, there in zip(questions, told, strict=True)
            ),
            found=_share(zip(found, told, strict=True)),
            window=_share((question.evidence, windows[question.person]) for question in questions),
            milliseconds=took,
        )


def _prompts(
    questions: Sequence[Asked], sessions: Mapping[Person, Session], budget: int
) -> tuple[list[Prompt], float]:
    prompts, took = [], []
    for question in questions:
        begun = time.perf_counter()
        prompts.append(turns.preview(sessions[question.person], question.text, max_tokens=budget))
        took.append(1000 * (time.perf_counter() - begun))
    return prompts, statistics.median(took)


def _found(question: Asked, owner: Any) -> frozenset[int]:
    """The evidence that search has among its first."""
    hits = search.find(question.person, owner, question.text, limit=FOUND, neighbours=0)
    return question.evidence & {hit.message_id for hit in hits}


def _told(prompt: Prompt, places: Mapping[tuple[str, int], int]) -> set[int]:
    """The messages that this prompt quotes."""
    return {
        places[source["session"], source["position"]]
        for part in prompt.manifest["parts"]
        for source in part.get("sources", ())
        if "position" in source
    }


def _window(person: Person, owner: Any, budget: int) -> set[int]:
    """The newest messages of this person that fit the budget beside the instructions."""
    agent = agents.get(agents.default_name())
    told = tokens.count(agent.instructions, agent.model_name)
    left = budget - told - tokens.MESSAGE_OVERHEAD - tokens.REPLY_OVERHEAD
    kept: set[int] = set()
    for row in Message.objects.filter(session__owner=owner, session__person=person).order_by(
        "-created_at", "-id"
    ):
        left -= row.tokens + tokens.MESSAGE_OVERHEAD
        if left < 0:
            break
        kept.add(row.pk)
    return kept


def _places(owner: Any) -> dict[tuple[str, int], int]:
    rows = Message.objects.filter(session__owner=owner).values_list("pk", "session_id", "position")
    return {(str(UUID(str(session))), position): pk for pk, session, position in rows}


def _share(pairs: Any) -> float:
    """How much of the first of each pair is in the second, in per cent, questions weighing alike."""
    shares = [len(set(wanted) & set(there)) / len(wanted) for wanted, there in pairs if wanted]
    return 100 * statistics.fmean(shares) if shares else 0.0


def table(rows: Sequence[Reached]) -> str:
    """The figures for people."""
    heads = ("tokens", "evidence", f"of what search finds in {FOUND}", "the window alone", "ms a prompt")
    lines = ["Evidence that reaches the prompt, in per cent", "", "".join(f"{head:>28}" for head in heads)]
    lines += [
        f"{row.budget:>28}{row.prompt:>28.1f}{row.found:>28.1f}{row.window:>28.1f}{row.milliseconds:>28.1f}"
        for row in rows
    ]
    return "\n".join(lines)
