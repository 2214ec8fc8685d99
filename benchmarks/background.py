"""How many turns one worker takes in: learned from by the offline rules, and indexed with their vectors."""

import sys
import time

from benchmarks import stage
from benchmarks.processes import postgres_tree
from benchmarks.report import Section, Table
from benchmarks.running import main
from benchmarks.stage import Sizes
from convo import jobs, turns
from convo.history import NewMessage
from convo.models import IndexedMessage, Person, Session, Turn

NAME = "background"
# Turns of one session, as people talk: a session has some, not all.
TURNS = 10
PERSON = "person-"
FACTS = ["My name is Ada.", "I live in Oslo.", "I prefer tea to coffee.", "Which charger fits?", "Thanks!"]


def record(count: int) -> None:
    owner = stage.owner()
    for begin in range(0, count, TURNS):
        person = Person.objects.get_or_create_by_ref(owner, f"{PERSON}{begin}")
        session = Session.objects.create(owner=owner, person=person, agent="assistant")
        for number in range(begin, min(begin + TURNS, count)):
            _, reply = stage.pair(number)
            question = f"{FACTS[number % len(FACTS)]} {stage.WORDS}"
            turns.record(session, [NewMessage(role="user", content=question), reply])


def is_behind() -> bool:
    ours = Turn.objects.filter(session__person__ref__startswith=PERSON)
    waiting = ours.filter(indexed_at=None) | ours.filter(learned_at=None)
    vectors = IndexedMessage.objects.filter(person__ref__startswith=PERSON, vector=None)
    return waiting.exists() or vectors.exists()


def measure(sizes: Sizes) -> Section:
    """Let this process sweep until nothing is left, as a Celery worker's task for the sweep does."""
    section, count = Section(NAME), sizes.background_turns
    # The first sweep loads the models and the rules.
    record(1)
    jobs.sweep()
    stage.progress(f"recording {count:,} turns")
    record(count)
    stage.progress("one worker at work")
    tree = postgres_tree()
    began, used, database = time.perf_counter(), time.process_time(), tree.cpu_seconds()
    while is_behind():
        jobs.sweep()
    spent = time.perf_counter() - began
    used, database = time.process_time() - used, tree.cpu_seconds() - database
    columns = ["worker", "turns per second", "its CPU ms a turn", "PostgreSQL CPU ms a turn"]
    made = Table("One worker, offline rules", columns)
    made.add("learned and indexed", count / spent, 1000 * used / count, 1000 * database / count)
    section.tables.append(made)
    section.at_least("one worker, learned and indexed", count / spent, 100, "turns/s")
    return section


if __name__ == "__main__":
    sys.exit(main(__spec__.name, measure, __doc__))
