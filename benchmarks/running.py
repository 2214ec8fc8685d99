"""Run measurements: each in a process and on a new database of its own.

The process gets the command line that a person typed, and `--here` with the file for its figures.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from django.core.management import call_command

from benchmarks import report
from benchmarks.databases import KINDS, database
from benchmarks.report import Section


def in_child(kind: str, arguments: Sequence[str], figures_path: str | Path = os.devnull) -> int:
    """Run `python -m benchmarks` with these arguments on a new database; return its exit status."""
    command = [sys.executable, "-m", "benchmarks", *arguments, "--here", str(figures_path)]
    with database(kind) as url:
        env = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
        return subprocess.run(command, env=env, check=False).returncode


def sections_of(arguments: Sequence[str]) -> list[Section]:
    """Return the sections that a process measures on a new PostgreSQL, or none if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sections.json"
        if in_child("postgres", arguments, path):
            return []
        return [report.read_section(fields) for fields in json.loads(path.read_text(encoding="utf-8"))]


def save(path: Path, *measures: Callable[[], Section]) -> int:
    """Measure on the database of this process, and write the sections to a file."""
    call_command("migrate", verbosity=0)
    sections = [measure_timed(measure) for measure in measures]
    path.write_text(json.dumps([asdict(section) for section in sections]), encoding="utf-8")
    return 0


def measure_timed(measure: Callable[[], Section]) -> Section:
    start = time.perf_counter()
    section = measure()
    section.seconds, section.when = time.perf_counter() - start, report.now()
    return section


def section_command(measure: Callable[[Namespace], Section]) -> Callable[[Namespace], int]:
    """Return the command that measures one section and writes it beside those of `make bench`.

    Its status is 1 if a target is not met.
    """

    def run(options: Namespace) -> int:
        if options.here:
            return save(options.here, lambda: measure(options))
        sections = sections_of(sys.argv[1:])
        for section in sections:
            report.print_section(section)
        report.write(sections, options.folder, {})
        return 0 if sections and all(target.is_met for target in sections[0].targets) else 1

    return run


def on_each_database(measure: Callable[[Namespace], int | None]) -> Callable[[Namespace], int]:
    """Return the command that measures on SQLite and PostgreSQL, and prints; its status is the worst."""

    def run(options: Namespace) -> int:
        if options.here:
            call_command("migrate", verbosity=0)
            return measure(options) or 0
        return max(in_child(kind, sys.argv[1:]) for kind in options.database or KINDS)

    return run


def add_folder(command: ArgumentParser) -> None:
    command.add_argument("--folder", type=Path, default=report.FOLDER, help="write the figures there")


def add_databases(command: ArgumentParser) -> None:
    command.add_argument("--database", choices=KINDS, action="append", help="on this one only")
