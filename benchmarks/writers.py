"""Many writers into one session at once, and the judge of what they leave behind.

`python -m benchmarks.writers` is one process of them: it waits for a line on stdin to begin.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection, connections

from convo import tokens, turns
from convo.history import NewMessage
from convo.models import Message, Session

ROOT = Path(__file__).resolve().parent.parent
CREATE_RAW = "CREATE TABLE raw_message (id {key}, session TEXT, role TEXT, content TEXT)"

# The text of a turn, its question and its reply alike: "3/17" is the 17th turn of writer 3.
Write = Callable[[Sequence[str]], None]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The fate of the turns that were acknowledged."""

    messages: int
    lost: int
    duplicated: int
    split: int
    out_of_order: int

    @property
    def faults(self) -> int:
        return self.lost + self.duplicated + self.split + self.out_of_order


def texts(writer: int, count: int) -> list[str]:
    return [f"{writer}/{number}" for number in range(count)]


def judge(acknowledged: Sequence[str], stored: Sequence[tuple[str, str]]) -> Verdict:
    """Compare what was acknowledged with the (role, text) pairs of the transcript."""
    counts = Counter(stored)
    expected = [(role, text) for text in acknowledged for role in ("user", "assistant")]
    whole_turns = {first[1] for first, second in pairwise(stored) if _is_turn(first, second)}
    order: dict[str, list[int]] = defaultdict(list)
    for role, text in stored:
        writer, _, number = text.partition("/")
        order[f"{writer} {role}"].append(int(number))
    return Verdict(
        messages=len(stored),
        lost=sum(pair not in counts for pair in expected),
        duplicated=sum(count - 1 for count in counts.values()),
        split=sum(text not in whole_turns for text in {text for _, text in stored}),
        out_of_order=sum(
            next_number < number for numbers in order.values() for number, next_number in pairwise(numbers)
        ),
    )


def _is_turn(first: tuple[str, str], second: tuple[str, str]) -> bool:
    return (first[0], second[0]) == ("user", "assistant") and first[1] == second[1]


def stored(session: UUID) -> list[tuple[str, str]]:
    """The transcript as the judge reads it."""
    rows = Message.objects.filter(session=session).order_by("position")
    return list(rows.values_list("role", "content"))


def through_convo(session: UUID) -> Write:
    """Each turn by `turns.record`, as an outside agent writes."""
    row = Session.objects.get(pk=session)
    tokens.count("A tokenizer reads its vocabulary at the first word.")

    def write(lines: Sequence[str]) -> None:
        for text in lines:
            turns.record(
                row, [NewMessage(role="user", content=text), NewMessage(role="assistant", content=text)]
            )

    return write


def raw(session: UUID) -> Write:
    """Each turn by the driver alone: two rows, one commit, and the same promise to be on the disk."""
    mark = "?" if connection.vendor == "sqlite" else "%s"
    insert = f"INSERT INTO raw_message (session, role, content) VALUES ({mark}, {mark}, {mark})"

    def write(lines: Sequence[str]) -> None:
        with closing(raw_connection()) as driver:
            for text in lines:
                driver.execute("BEGIN IMMEDIATE" if connection.vendor == "sqlite" else "BEGIN")
                for role in ("user", "assistant"):
                    driver.execute(insert, (str(session), role, text))
                driver.execute("COMMIT")

    return write


def raw_connection() -> Any:
    if connection.vendor == "postgresql":
        return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    driver = sqlite3.connect(connection.settings_dict["NAME"], timeout=20, isolation_level=None)
    driver.execute("PRAGMA journal_mode=WAL")
    driver.execute("PRAGMA synchronous=FULL")
    return driver


WAYS = {"convo": through_convo, "raw": raw}


def in_threads(write: Write, *, first: int, threads: int, count: int) -> tuple[list[str], float]:
    """Write by so many threads at once; return the acknowledged texts and the seconds."""
    jobs = [texts(writer, count) for writer in range(first, first + threads)]
    ready = Barrier(threads + 1, timeout=60)

    def write_when_all_are_connected(lines: Sequence[str]) -> None:
        connection.ensure_connection()
        ready.wait()
        write(lines)
        connection.close()

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(write_when_all_are_connected, lines) for lines in jobs]
        ready.wait()
        start = time.perf_counter()
        for future in futures:
            future.result()
    return [text for lines in jobs for text in lines], time.perf_counter() - start


class Process:
    """Writers in a process of their own, ready to begin."""

    def __init__(self, way: str, session: UUID, *, first: int, threads: int, count: int, url: str) -> None:
        numbers = map(str, (first, threads, count))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.writers", way, str(session), *numbers],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        ready = self._process.stdout.readline()
        assert ready, "a process of writers did not start"

    def begin(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def outcome(self) -> tuple[list[str], float]:
        """As of `in_threads`, once all is written."""
        output = self._process.communicate()[0]
        assert self._process.returncode == 0, "a process of writers failed"
        acknowledged, seconds = json.loads(output)
        return acknowledged, seconds


def in_processes(
    way: str, session: UUID, *, processes: int, threads: int, count: int, url: str
) -> tuple[list[str], float]:
    """The same with the writers in several processes, which begin together."""
    running = [
        Process(way, session, first=number * threads, threads=threads, count=count, url=url)
        for number in range(processes)
    ]
    for process in running:
        process.begin()
    outcomes = [process.outcome() for process in running]
    return [text for texts_of_one, _ in outcomes for text in texts_of_one], max(
        seconds for _, seconds in outcomes
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writers")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("session", type=UUID)
    for name in ("first", "threads", "count"):
        parser.add_argument(name, type=int)
    options = parser.parse_args()
    write = WAYS[options.way](options.session)
    connections.close_all()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(in_threads(write, first=options.first, threads=options.threads, count=options.count)))


if __name__ == "__main__":
    main()
