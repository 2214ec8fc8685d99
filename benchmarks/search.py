"""The speed of indexing beside replies that stream, and of searches.

A server streams replies of a model that says a word every 20 ms, and finds that 10,000 messages are not in
the index: its own worker takes them in meanwhile. Then this process indexes them again, with nothing beside.
"""

import os
import random
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Max, Min
from django.db.models.functions import Now

from convo import search, turns
from convo.history import NewMessage
from convo.models import ApiKey, Person, Turn
from tests.servers import Server, client_of
from tests.upstream import Upstream

WORDS = [
    first + second
    for first in "bdfgklmnprst"
    for second in ("ale", "iro", "undo", "este", "amo", "ikki", "or")
]
QUESTIONS = 200
# The replies that stream at a time, and the seconds between two words.
READERS, PAUSE = 4, 0.02
IDLE_SECONDS = 5
ONLY_INDEXED = "defaults: {learn: false, memory: false, summaries: false}"
AGENTS = f"default: assistant\n{ONLY_INDEXED}\nagents: {{assistant: {{}}}}\n"
TICKS = os.sysconf("SC_CLK_TCK")

Gap = tuple[float, float]


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(5, 25))) + draw.choice([".", "?", "!"])


def record(owner: Any, *, messages: int, sessions: int) -> Person:
    """Record conversations of a person; none of them is in the index."""
    draw = random.Random(7)
    person = Person.objects.get_or_create_by_ref(owner, "somebody")
    for _ in range(sessions):
        session, _ = turns.store_session(turns.new_session(owner, person.ref))
        roles = [("user", "assistant")[number % 2] for number in range(messages // sessions)]
        turns.record(session, [NewMessage(role=role, content=sentence(draw)) for role in roles])
    return person


@contextmanager
def reading(server: Server, key: str) -> Iterator[list[Gap]]:
    """Read replies meanwhile; collect when each word came, and how long after the one before."""
    gaps: list[Gap] = []
    is_over = threading.Event()

    def read_replies() -> None:
        with client_of(server, key) as client:
            while not is_over.is_set():
                body = {"message": "Tell me more.", "stream": True, "user": "reader"}
                with client.stream("POST", "/api/v1/query/", json=body) as response:
                    response.raise_for_status()
                    moments = [
                        time.perf_counter() for line in response.iter_lines() if line == "event: delta"
                    ]
                gaps.extend((now, 1000 * (now - before)) for before, now in pairwise(moments))

    readers = [threading.Thread(target=read_replies) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        yield gaps
    finally:
        is_over.set()
        for reader in readers:
            reader.join()


def print_gaps(title: str, gaps: Sequence[Gap]) -> None:
    if len(gaps) < 2:
        print(f"  {title}: none were being written", flush=True)
        return
    waits = sorted(wait for _, wait in gaps)
    parts, seconds = quantiles(waits, n=100), gaps[-1][0] - gaps[0][0]
    print(
        f"  {title}: {len(waits) / seconds:.0f} words a second, {median(waits):.1f} ms between two, "
        f"p95 {parts[94]:.1f}, p99 {parts[98]:.1f}, longest {waits[-1]:.0f}",
        flush=True,
    )


def beside_replies(owner: Any, person: Person, messages: int) -> None:
    key = ApiKey.objects.issue(owner)[1]
    person_turns = Turn.objects.filter(session__person=person)
    # Not to be seen before the replies are being written.
    person_turns.update(indexed_at=Now())
    with Upstream() as upstream, tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        # Summaries and facts are other work, and have other measurements.
        (agents := Path(folder) / "agents.yaml").write_text(AGENTS)
        server = Server(
            Path(folder) / "log",
            CONVO_AGENTS_FILE=str(agents),
            CONVO_SWEEP_SECONDS="5",
            OPENAI_BASE_URL=upstream.url,
            CONVO_MODEL=f"steady-{1000 * PAUSE:.0f}",
            DATABASE_URL=os.environ["DATABASE_URL"],
        )
        ending.callback(server.kill)
        with reading(server, key) as gaps:
            time.sleep(IDLE_SECONDS)
            start, cpu_before = time.perf_counter(), processor_seconds(server)
            person_turns.update(indexed_at=None)
            while person_turns.filter(indexed_at=None).exists():
                time.sleep(0.2)
            end, cpu = time.perf_counter(), processor_seconds(server) - cpu_before
            time.sleep(IDLE_SECONDS)
        server.stop()
    moments = person_turns.aggregate(first=Min("indexed_at"), last=Max("indexed_at"))
    # The first batch was prepared before its moment.
    rest = messages - len(person_turns.filter(indexed_at=moments["first"])) * 2
    seconds = (moments["last"] - moments["first"]).total_seconds()
    print(f"  the server's own worker: {rest / seconds:.0f} messages a second,")
    print(f"    {cpu:.1f} s of the server's processor time meanwhile, replies included")
    print_gaps("streams before", [gap for gap in gaps if gap[0] <= start])
    print_gaps("streams meanwhile", [gap for gap in gaps if start < gap[0] <= end])
    print_gaps("streams afterwards", [gap for gap in gaps if gap[0] > end])


def processor_seconds(server: Server) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def index_again(person: Person, messages: int) -> None:
    Turn.objects.filter(session__person=person).update(indexed_at=None)
    start, cpu_before = time.perf_counter(), time.process_time()
    while search.index_turns():
        pass
    rate, cpu = messages / (time.perf_counter() - start), time.process_time() - cpu_before
    print(f"  a process of its own: {rate:.0f} a second, {messages / cpu:.0f} by its processor time")


def search_often(owner: Any, person: Person) -> None:
    draw = random.Random(8)
    waits, cpu = [], []
    for _ in range(QUESTIONS):
        question = " ".join(draw.choices(WORDS, k=6))
        start, cpu_before = time.perf_counter(), time.process_time()
        search.find(person, owner, question)
        waits.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - cpu_before))
    print(
        f"  a search: {median(waits):.1f} ms, p95 {quantiles(waits, n=20)[-1]:.1f}; "
        f"{median(cpu):.1f} ms of this process's processor time"
    )


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=200)


def measure(options: Namespace) -> None:
    messages, sessions = options.messages, options.sessions
    owner = get_user_model().objects.create_user("benchmark")
    person = record(owner, messages=messages, sessions=sessions)
    print(f"{connection.vendor}, {messages} messages in {sessions} sessions, load {os.getloadavg()[0]:.1f}")
    beside_replies(owner, person, messages)
    search.find(person, owner, "load the model")
    index_again(person, messages)
    search_often(owner, person)
