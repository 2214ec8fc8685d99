"""What the memory page shows: the facts about one person in order, each with where it comes from."""

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
# The kinds that are learned, in the order in which they are told.
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
SHOWN, HELD_BACK = 50, 20
# So many can be looked through without a search.
FEW = 12
LONGEST_SEARCH = 200


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact, the words that it was learned from, what it took the place of, and why it is held back."""

    row: UserMemory
    said: Sequence[Evidence]
    before: Sequence[UserMemory]

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
    def doubt(self) -> str:
        words = (evidence.message.content for evidence in self.said)
        return memory.doubt(self.row.text, words, self.row.confidence)

    @property
    def kind_rule(self) -> str:
        return memory.KIND + self.row.kind


@dataclass(frozen=True, kw_only=True)
class Group:
    """Facts under one heading."""

    title: str
    pinned: bool
    facts: Sequence[Fact]


def everything(person: Person | None, asked: Mapping[str, str]) -> dict[str, Any]:
    """All that the page shows about this person, as far as the address asks for it."""
    known, held_back = _rows(person)
    words = asked.get("q", "").replace("\0", "").strip()[:LONGEST_SEARCH]
    kind = asked.get("kind", "").replace("\0", "")
    found = _in_order(known.about(kind=kind, words=words), asked.get("page"))
    waiting = list(held_back.order_by("-valid_from", "-id")[:HELD_BACK])
    facts = _facts([*found, *waiting])
    kinds = _kinds(known)
    total = sum(count for _, _, count in kinds)
    return {
        "groups": _groups(facts[: len(found)]),
        "held_back": facts[len(found) :],
        "page": found,
        "kinds": kinds,
        "all_kinds": KINDS,
        "total": total,
        "many": total > FEW,
        "q": words,
        "kind": kind,
        "rules": [(rule, rule_in_words(rule)) for rule in person.never_store] if person else [],
        "thinking": person is not None and memory.unlearned(person),
        **_forgetful(),
    }


def one(person: Person | None, key: str) -> UserMemory | None:
    """The person's fact with this key, if it is still known."""
    try:
        wanted = UUID(key)
    except ValueError:
        return None
    rows = UserMemory.objects.filter(person=person, key=wanted) if person else UserMemory.objects.none()
    return rows.exclude(status=Status.FORGOTTEN).select_related("person").first()


def kind_in_words(kind: str) -> str:
    return KINDS.get(kind, kind.capitalize())


def rule_in_words(rule: str) -> str:
    """A rule as a person reads it."""
    if rule.startswith(memory.KIND):
        return f"anything under “{kind_in_words(rule.removeprefix(memory.KIND).strip())}”"
    return f"what says “{rule}”"


def _rows(person: Person | None) -> tuple[UserMemoryQuerySet, UserMemoryQuerySet]:
    """What is known about this person, and what is held back until they have looked at it."""
    if person is None:
        return UserMemory.objects.none(), UserMemory.objects.none()
    held_back = UserMemory.objects.filter(person=person, status=Status.NEEDS_REVIEW)
    return UserMemory.objects.known(person), held_back


def _in_order(rows: UserMemoryQuerySet, number: str | None) -> "Page[UserMemory]":
    """One page of the facts: pinned ones first, then kind by kind, the newest first."""
    places = [When(kind=kind, then=place) for place, kind in enumerate(KINDS)]
    place = Case(*places, default=len(KINDS) - 1, output_field=IntegerField())
    ordered = rows.order_by("-pinned", place, "kind", "-valid_from", "-id")
    return Paginator(ordered, SHOWN).get_page(number)


def _facts(rows: Sequence[UserMemory]) -> list[Fact]:
    said, before = memory.evidence_of(rows), memory.replaced(rows)
    return [
        Fact(row=row, said=[one for one in said[row.pk] if one.message.active], before=before[row.pk])
        for row in rows
    ]


def _groups(facts: Iterable[Fact]) -> list[Group]:
    headings = groupby(facts, key=lambda fact: (fact.row.pinned, "Pinned" if fact.row.pinned else fact.kind))
    return [Group(title=title, pinned=pinned, facts=list(some)) for (pinned, title), some in headings]


def _kinds(known: UserMemoryQuerySet) -> list[tuple[str, str, int]]:
    """The kinds that there are, each in words and with the number of facts."""
    counted = dict(known.order_by().values_list("kind").annotate(count=Count("pk")))
    places = {kind: place for place, kind in enumerate(KINDS)}
    kinds = sorted(counted, key=lambda kind: (places.get(kind, len(places) - 1), kind))
    return [(kind, kind_in_words(kind), counted[kind]) for kind in kinds]


def _forgetful() -> dict[str, Any]:
    """The agents to whom this page means nothing, and those that only learn nothing."""
    everyone = list(agents.everyone().values())
    untold = [agent.title for agent in everyone if not agent.memory]
    unlearning = [agent.title for agent in everyone if agent.memory and not agent.learn]
    silent = len(untold) + len(unlearning) == len(everyone)
    return {"untold": untold, "unlearning": unlearning, "nobody_learns": silent}
