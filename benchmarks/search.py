"""How fast messages are indexed and found: `python -m benchmarks.search [--messages N]`.

Run it with DATABASE_URL naming a database that is migrated and may be written to; what it writes it removes.
"""

import argparse
import os
import random
import secrets
import time
from statistics import median, quantiles

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402

from convo import history, search, turns  # noqa: E402
from convo.history import Draft  # noqa: E402
from convo.models import Person, Session, Turn  # noqa: E402

WORDS = [
    first + second
    for first in "bdfgklmnprst"
    for second in ("ale", "iro", "undo", "este", "amo", "ikki", "or")
]
SESSIONS = 50
QUESTIONS = 200


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(5, 25))) + draw.choice([".", "?", "!"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    messages = parser.parse_args().messages
    draw = random.Random(7)
    users = get_user_model()
    owner = users._default_manager.create(**{users.USERNAME_FIELD: f"benchmark-{secrets.token_hex(6)}"})
    try:
        person = Person.objects.named(owner, "somebody")
        for _ in range(SESSIONS):
            session, _ = turns.stored(turns.new_session(owner, person.ref))
            said = [
                Draft(role=("user", "assistant")[number % 2], content=sentence(draw))
                for number in range(messages // SESSIONS)
            ]
            turns.record(session, said)
        search.find(person, owner, "load the model")
        begun = time.perf_counter()
        while Turn.objects.filter(session__owner=owner, indexed_at=None).exists():
            search.index_turns()
        taken = time.perf_counter() - begun
        print(f"indexed {messages} messages in {taken:.1f} s: {messages / taken:.0f} a second")
        waits = []
        for _ in range(QUESTIONS):
            question = " ".join(draw.choices(WORDS, k=6))
            begun = time.perf_counter()
            search.find(person, owner, question)
            waits.append(1000 * (time.perf_counter() - begun))
        print(f"a search: {median(waits):.1f} ms, p95 {quantiles(waits, n=20)[-1]:.1f} ms")
    finally:
        for pk in Session.objects.filter(owner=owner).values_list("pk", flat=True):
            history.remove(pk)
        owner.delete()


if __name__ == "__main__":
    main()
