"""The contents of the memory page: the facts about one person in order, each with its sources."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Case, Count, IntegerField, When

from convo import agents, memory
from convo.models import Evidence, Person, UserMemory
from convo.models.memories import UserMemoryQuerySet

Status = UserMemory.Status
# The kinds of facts, in the order in which the page shows them.
KINDS = {
    "identity": "Who you are",
    "relation": "People and animals",
    "work": "Work",
    "health": "Health",
    "preference": "Tastes",
    "plan": "Plans",
    "fact": "Other",
}
SOURCES = {
    UserMemory.Source.MODEL: "learned by a model",
    UserMemory.Source.PATTERN: "learned by a rule",
    UserMemory.Source.USER: "written down by you",
}
PAGE_SIZE, MAX_HELD_BACK = 50, 20
# This many facts need no search.
SEARCH_THRESHOLD = 12
MAX_SEARCH_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact with its evidence, the facts that it replaced, and the reason to hold it back."""

    row: UserMemory
    evidence: Sequence[Evidence]
    replaced: Sequence[UserMemory]

    @property
    def id(self) -> str:
        return str(self.row.key)

    @property
    def kind(self) -> str:
        return kind_in_words(self.row.kind)

    @property
    def source(self) -> str:
        return SOURCES[UserMemory.Source(self.row.source)]

    @property
    def review_reason(self) -> str:
        words = (evidence.message.content for evidence in self.evidence)
        return memory.review_reason(self.row.text, words, self.row.confidence)

    @property
    def kind_rule(self) -> str:
        return memory.KIND_PREFIX + self.row.kind


@dataclass(frozen=True, kw_only=True)
class FactGroup:
    """Facts under one heading."""

    title: str
    is_pinned: bool
    facts: Sequence[Fact]


def memory_context(person: Person | None, query_params: Mapping[str, str]) -> dict[str, Any]:
    """Return the template context for this person, filtered by the query string."""
    known_facts, held_back_facts = _known_and_held_back(person)
    search_words = query_params.get("q", "").replace("\0", "").strip()[:MAX_SEARCH_LENGTH]
    kind = query_params.get("kind", "").replace("\0", "")
    facts_page = _facts_page(known_facts.matching(kind=kind, words=search_words), query_params.get("page"))
    held_back_page = list(held_back_facts.order_by("-valid_from", "-id")[:MAX_HELD_BACK])
    facts = _with_evidence([*facts_page, *held_back_page])
    kinds = _kind_counts(known_facts)
    total = sum(count for _, _, count in kinds)
    return {
        "groups": _grouped_facts(facts[: len(facts_page)]),
        "held_back": facts[len(facts_page) :],
        "page": facts_page,
        "kinds": kinds,
        "all_kinds": KINDS,
        "total": total,
        "many": total > SEARCH_THRESHOLD,
        "q": search_words,
        "kind": kind,
        "rules": [(rule, rule_in_words(rule)) for rule in person.never_store] if person else [],
        "thinking": person is not None and memory.has_unlearned_turns(person),
        **_agents_without_learning(),
    }


def find_fact(person: Person | None, key: str) -> UserMemory | None:
    try:
        memory_key = UUID(key)
    except ValueError:
        return None
    rows = UserMemory.objects.filter(person=person, key=memory_key) if person else UserMemory.objects.none()
    return rows.exclude(status=Status.FORGOTTEN).select_related("person").first()


def kind_in_words(kind: str) -> str:
    return KINDS.get(kind, kind.capitalize())


def rule_in_words(rule: str) -> str:
    if rule.startswith(memory.KIND_PREFIX):
        return f"anything under “{kind_in_words(rule.removeprefix(memory.KIND_PREFIX).strip())}”"
    return f"anything that says “{rule}”"


def _known_and_held_back(person: Person | None) -> tuple[UserMemoryQuerySet, UserMemoryQuerySet]:
    if person is None:
        return UserMemory.objects.none(), UserMemory.objects.none()
    held_back_facts = UserMemory.objects.filter(person=person, status=Status.NEEDS_REVIEW)
    return UserMemory.objects.for_prompt(person), held_back_facts


def _facts_page(rows: UserMemoryQuerySet, page_number: str | None) -> "Page[UserMemory]":
    """Return one page of the facts: pinned ones first, then kind by kind, the newest first."""
    whens = [When(kind=kind, then=kind_order) for kind_order, kind in enumerate(KINDS)]
    kind_order = Case(*whens, default=len(KINDS) - 1, output_field=IntegerField())
    ordered = rows.order_by("-pinned", kind_order, "kind", "-valid_from", "-id")
    return Paginator(ordered, PAGE_SIZE).get_page(page_number)


def _with_evidence(rows: Sequence[UserMemory]) -> list[Fact]:
    evidence_by_fact, replaced_by_fact = memory.evidence_by_memory(rows), memory.predecessors(rows)
    return [
        Fact(
            row=row,
            evidence=[evidence for evidence in evidence_by_fact[row.pk] if evidence.message.active],
            replaced=replaced_by_fact[row.pk],
        )
        for row in rows
    ]


def _grouped_facts(facts: Iterable[Fact]) -> list[FactGroup]:
    headings = groupby(facts, key=lambda fact: (fact.row.pinned, "Pinned" if fact.row.pinned else fact.kind))
    return [
        FactGroup(title=title, is_pinned=is_pinned, facts=list(group))
        for (is_pinned, title), group in headings
    ]


def _kind_counts(known_facts: UserMemoryQuerySet) -> list[tuple[str, str, int]]:
    counts = dict(known_facts.order_by().values_list("kind").annotate(count=Count("pk")))
    positions = {kind: position for position, kind in enumerate(KINDS)}
    kinds = sorted(counts, key=lambda kind: (positions.get(kind, len(positions) - 1), kind))
    return [(kind, kind_in_words(kind), counts[kind]) for kind in kinds]


def _agents_without_learning() -> dict[str, Any]:
    """Return the agents that don't use memory at all, and those that use it but learn nothing."""
    all_agents = list(agents.all_agents().values())
    without_memory = [agent.title for agent in all_agents if not agent.memory]
    not_learning = [agent.title for agent in all_agents if agent.memory and not agent.learn]
    nobody_learns = len(without_memory) + len(not_learning) == len(all_agents)
    return {"untold": without_memory, "unlearning": not_learning, "nobody_learns": nobody_learns}
