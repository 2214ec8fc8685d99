"""Rules of a person: words, or kinds of facts, that are never remembered about them."""

from collections.abc import Sequence

from django.db import transaction

from convo import database
from convo.errors import InvalidRequest
from convo.memory import screen
from convo.models import Person

MAX_RULE_LENGTH = 200
MAX_RULES = 50


@database.retry_conflicts
@transaction.atomic
def set_rules(person: Person, never_store: Sequence[str]) -> Person:
    _validate(never_store)
    return _save_rules(Person.objects.lock(person), never_store)


@database.retry_conflicts
@transaction.atomic
def add_rule(person: Person, rule: str) -> Person:
    person = Person.objects.lock(person)
    rules = [*(other for other in person.never_store if other != rule), rule]
    _validate(rules)
    return _save_rules(person, rules)


@database.retry_conflicts
@transaction.atomic
def remove_rule(person: Person, rule: str) -> Person:
    person = Person.objects.lock(person)
    return _save_rules(person, [other for other in person.never_store if other != rule])


def _save_rules(person: Person, rules: Sequence[str]) -> Person:
    person.never_store = list(rules)
    person.save(update_fields=["never_store"])
    return person


def _validate(rules: Sequence[str]) -> None:
    if len(rules) > MAX_RULES:
        raise InvalidRequest(f"A person has at most {MAX_RULES} rules.", param="rules")
    for number, rule in enumerate(rules):
        # A rule without a letter or digit would rule out nothing, or everything.
        if len(rule) > MAX_RULE_LENGTH or not any(
            character.isalnum() for character in rule.removeprefix(screen.KIND_PREFIX)
        ):
            raise InvalidRequest(
                f"A rule must be words, or {screen.KIND_PREFIX!r} and a kind, of at most "
                f"{MAX_RULE_LENGTH} characters.",
                param=f"rules[{number}]",
            )
