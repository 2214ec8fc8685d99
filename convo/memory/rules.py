"""What a person has ruled out: words, or kinds of facts, that are never remembered about them."""

from collections.abc import Sequence

from django.db import transaction

from convo import database
from convo.errors import InvalidRequest
from convo.memory import screen
from convo.models import Person

LONGEST_RULE = 200
MOST_RULES = 50


@database.retried
@transaction.atomic
def set_rules(person: Person, never_store: Sequence[str]) -> Person:
    """Set what must never be remembered about this person, from now on."""
    _check(never_store)
    return _ruled(Person.objects.locked(person), never_store)


@database.retried
@transaction.atomic
def add_rule(person: Person, rule: str) -> Person:
    """Rule this out as well, from now on."""
    kept = Person.objects.locked(person)
    rules = [*(known for known in kept.never_store if known != rule), rule]
    _check(rules)
    return _ruled(kept, rules)


@database.retried
@transaction.atomic
def drop_rule(person: Person, rule: str) -> Person:
    """Let this be remembered again, from now on."""
    kept = Person.objects.locked(person)
    return _ruled(kept, [known for known in kept.never_store if known != rule])


def _ruled(person: Person, rules: Sequence[str]) -> Person:
    person.never_store = list(rules)
    person.save(update_fields=["never_store"])
    return person


def _check(rules: Sequence[str]) -> None:
    if len(rules) > MOST_RULES:
        raise InvalidRequest(f"A person has at most {MOST_RULES} rules.", param="rules")
    for number, rule in enumerate(rules):
        # A rule without a word would rule out nothing, or everything.
        if len(rule) > LONGEST_RULE or not any(sign.isalnum() for sign in rule.removeprefix(screen.KIND)):
            raise InvalidRequest(
                f"A rule is words, or {screen.KIND!r} and a kind, of at most {LONGEST_RULE} characters.",
                param=f"rules[{number}]",
            )
