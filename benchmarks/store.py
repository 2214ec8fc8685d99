"""Convo's store in this process, without HTTP, beside other stores on the same PostgreSQL.

Reads the newest 20 messages and appends a turn of two, in sessions of some lengths. Then 16 writers append to
one session at once, as `benchmarks.concurrency` does.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from statistics import median
from typing import Any
from uuid import UUID

from django.db import connection, connections
from django.test import override_settings
from psycopg_pool import ConnectionPool

from benchmarks import concurrency, plain_drf, seed, stage, writers
from benchmarks.processes import ROOT
from benchmarks.report import Section, Table, format_cell, ratio
from benchmarks.stage import Sizes
from convo import history, turns
from convo.models import Session

NAME = "store"
CONVO, WARM, ORM, RAW = "Convo", "Convo, read from the window", "Django ORM", "psycopg pool"
AGENTS, LANGGRAPH = "openai-agents SQLAlchemySession", "LangGraph PostgresSaver"
# As a server with Redis has it, so that the window is read from Valkey and not from this process.
CACHE = {
    "BACKEND": "django_redis.cache.RedisCache",
    "OPTIONS": {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"},
}
Figures = dict[str, list[tuple[float, float]]]
Call = Callable[[], object]


def median_milliseconds(times: int, call: Call) -> float:
    """Return the median of the milliseconds that this call takes, after two that are not measured."""
    call(), call()
    milliseconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        milliseconds.append(1000 * (time.perf_counter() - start))
    return median(milliseconds)


def of_convo(length: int, times: int) -> dict[str, tuple[float, float]]:
    session = Session.objects.get(pk=seed.seed(stage.owner(), sessions=1, messages=length)[0])
    version = session.epoch, session.last_position
    read = median_milliseconds(times, lambda: history.page(session, newest_first=True, size=20))
    warm = median_milliseconds(times, lambda: history.look_up_newest(session.pk, version)[0][-20:])
    append = median_milliseconds(times, lambda: turns.record(session, stage.pair(0)))
    return {CONVO: (read, append), WARM: (warm, append)}


def of_orm(length: int, times: int) -> tuple[float, float]:
    """The plain project's own functions: lock, `bulk_create` of two rows, update."""
    user = stage.owner()
    (session,) = stage.plain_sessions(user, 1, length)
    newest = plain_drf.PlainMessage.objects.filter(session=session).order_by("-position")
    messages = [{"role": message.role, "content": message.content} for message in stage.pair(0)]
    read = median_milliseconds(times, lambda: list(newest[:20]))
    return read, median_milliseconds(times, lambda: plain_drf.append(session, user, messages))


def of_raw(pool: ConnectionPool[Any], length: int, times: int) -> tuple[float, float]:
    """Two rows in one statement and one commit, without positions and locks: the floor."""
    text, name = stage.pair(0)[0].content, f"session {length}"
    insert = "INSERT INTO raw_message (session, role, content) VALUES "
    with pool.connection() as driver:
        rows = f"SELECT %s, 'user', %s FROM generate_series(1, {length})"
        driver.execute(insert.removesuffix("VALUES ") + rows, (name, text))

    def read() -> object:
        with pool.connection() as driver:
            select = "SELECT * FROM raw_message WHERE session = %s ORDER BY id DESC LIMIT 20"
            return driver.execute(select, (name,)).fetchall()

    def append() -> None:
        with pool.connection() as driver:
            driver.execute(
                insert + "(%s, %s, %s), (%s, %s, %s)", (name, "user", text, name, "assistant", text)
            )

    return median_milliseconds(times, read), median_milliseconds(times, append)


def ask_peer(**plan: object) -> Any:
    """Run a measurement in the peers' environment, and return what it prints."""
    plan = {"url": os.environ["DATABASE_URL"], "text": stage.pair(0)[0].content, **plan}
    command = [stage.peer_python(), "-P", str(ROOT / "benchmarks" / "peer_store.py")]
    process = subprocess.run(
        command, input=json.dumps(plan) + "\n", capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise RuntimeError(process.stderr.strip().splitlines()[-1])
    return json.loads(process.stdout.splitlines()[-1])


def measure_peers(section: Section, figures: Figures, sizes: Sizes) -> None:
    peers = {
        AGENTS: ("openai-agents", sizes.store_lengths),
        LANGGRAPH: ("langgraph", tuple(each for each in sizes.store_lengths if each <= sizes.peer_most)),
    }
    for name, (kind, lengths) in peers.items():
        stage.progress(name)
        try:
            pairs = ask_peer(kind=kind, lengths=lengths, times=sizes.times)
        except (FileNotFoundError, RuntimeError) as error:
            section.notes.append(f"{name}: not measured: {error}")
            continue
        figures[name] = [(read, append) for read, append in pairs]


def measure(sizes: Sizes) -> Section:
    section, figures = Section(NAME), Figures()
    plain_drf.create_tables()
    with connection.cursor() as cursor:
        cursor.execute(writers.CREATE_RAW.format(key="BIGSERIAL PRIMARY KEY"))
        cursor.execute("CREATE INDEX ON raw_message (session, id)")
    with (
        stage.valkey() as redis,
        override_settings(CACHES={"default": {**CACHE, "LOCATION": redis}}),
        ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=4) as pool,
    ):
        for length in sizes.store_lengths:
            stage.progress(f"a session of {length:,} messages")
            pairs = of_convo(length, sizes.times)
            pairs[ORM], pairs[RAW] = of_orm(length, sizes.times), of_raw(pool, length, sizes.times)
            for name, pair in pairs.items():
                figures.setdefault(name, []).append(pair)
    measure_peers(section, figures, sizes)
    tables(section, figures, sizes)
    targets(section, figures)
    headlines(section, figures, sizes)
    if sizes.writers_turns:
        stage.progress("16 writers on one session")
        write_at_once(section, sizes)
    return section


def tables(section: Section, figures: Figures, sizes: Sizes) -> None:
    for place, title in enumerate(("read 20, p50 ms", "append a turn, p50 ms")):
        columns = ["store", *(f"{length:,} messages" for length in sizes.store_lengths)]
        table = Table(title, columns, bars=[columns[min(2, len(columns) - 1)]])
        for name, pairs in figures.items():
            if name != WARM or place == 0:
                missing = len(sizes.store_lengths) - len(pairs)
                table.add(name, *(pair[place] for pair in pairs), *["not measured"] * missing)
        section.tables.append(table)


def targets(section: Section, figures: Figures) -> None:
    reads = {name: median(pair[0] for pair in pairs) for name, pairs in figures.items()}
    appends = {name: median(pair[1] for pair in pairs) for name, pairs in figures.items()}
    section.at_most("append in process, × the ORM", ratio(appends[CONVO], appends[ORM]), 2.2)
    section.at_most("read 20 from the window, × the ORM", ratio(reads[WARM], reads[ORM]), 1)
    for title, times in (("append in process", appends), ("read 20 in process", reads)):
        if AGENTS in times:
            section.at_most(f"{title}, × openai-agents", ratio(times[CONVO], times[AGENTS]), 1)
        else:
            section.expect(f"{title}, × openai-agents", "not measured", "≤ 1 ×", None)


def headlines(section: Section, figures: Figures, sizes: Sizes) -> None:
    at = min(1, len(sizes.store_lengths) - 1)
    for place, operation in enumerate(("read 20 messages", "append a turn")):
        peer_figures = [
            f"{name} {format_cell(pairs[at][place])}"
            for name, pairs in figures.items()
            if name not in (CONVO, WARM) and len(pairs) > at
        ]
        title = f"{operation} in process, at {sizes.store_lengths[at]:,} messages, p50"
        section.headlines.append(
            [title, f"{format_cell(figures[CONVO][at][place])} ms", ", ".join(peer_figures)]
        )


class PeerProcess:
    """Writers of openai-agents in a process of their own, ready to begin."""

    def __init__(self, session: str, texts: list[list[str]]) -> None:
        self._process = subprocess.Popen(
            [stage.peer_python(), "-P", str(ROOT / "benchmarks" / "peer_store.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        plan = {"kind": "write", "url": os.environ["DATABASE_URL"], "session": session, "texts": texts}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(plan) + "\n")
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise RuntimeError("a process of openai-agents did not start")

    def begin(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def seconds(self) -> float:
        output = self._process.communicate()[0]
        return float(json.loads(output)["seconds"])


def peer_writers(processes: int, count: int) -> tuple[list[str], writers.Verdict, float]:
    """Append the same turns by openai-agents; return the acknowledged ones, the verdict and the seconds."""
    name, each = f"writers of {processes}", concurrency.WRITERS // processes
    texts = [writers.texts(writer, count) for writer in range(concurrency.WRITERS)]
    running = [PeerProcess(name, texts[at : at + each]) for at in range(0, concurrency.WRITERS, each)]
    for process in running:
        process.begin()
    seconds = max(process.seconds() for process in running)
    transcript = [(role, text) for role, text in ask_peer(kind="read back", session=name)]
    acknowledged = [text for lines in texts for text in lines]
    return acknowledged, writers.judge(acknowledged, transcript), seconds


def convo_writers(run: concurrency.Run, count: int) -> tuple[list[str], writers.Verdict, float]:
    (session,) = stage.new_sessions(stage.owner(), 1)
    connections.close_all()
    acknowledged, seconds = run("convo", UUID(str(session.pk)), count)
    return acknowledged, writers.judge(acknowledged, writers.stored(session.pk)), seconds


def write_at_once(section: Section, sizes: Sizes) -> None:
    count = sizes.writers_turns // concurrency.WRITERS
    columns = ["writers", "turns per second", "messages", "lost", "doubled", "split", "out of order"]
    table = Table("16 writers append to one session", columns, bars=["turns per second"])
    for (name, run), processes in zip(concurrency.RUNS.items(), (1, concurrency.PROCESSES), strict=True):
        rates: list[float] = []
        runs: dict[str, Callable[[], tuple[list[str], writers.Verdict, float]]] = {
            "Convo": lambda run=run: convo_writers(run, count),  # type: ignore[misc]
            "openai-agents": lambda processes=processes: peer_writers(processes, count),  # type: ignore[misc]
        }
        for name_of_writer, start in runs.items():
            try:
                acknowledged, verdict, seconds = start()
            except (FileNotFoundError, RuntimeError) as error:
                section.notes.append(f"{name_of_writer}, {name}: not measured: {error}")
                continue
            rates.append(len(acknowledged) / seconds)
            faults = verdict.lost, verdict.duplicated, verdict.split, verdict.out_of_order
            table.add(
                f"{name_of_writer}, {name}",
                rates[-1],
                f"{verdict.messages} of {2 * len(acknowledged)}",
                *faults,
            )
            if name_of_writer == "Convo":
                section.at_most(f"16 writers, {name}: faults", verdict.faults, 0, "")
        title = f"16 writers, {name}, × openai-agents"
        if len(rates) == 2:
            row = [f"16 writers on one session, {name}", f"{format_cell(rates[0])} turns/s"]
            section.headlines.append([*row, f"openai-agents {format_cell(rates[1])}"])
            section.at_least(title, ratio(*rates), 1.2)
        else:
            section.expect(title, f"{format_cell(rates[0])} turns/s", "≥ 1.2 ×", None)
    section.tables.append(table)
