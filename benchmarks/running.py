"""Run sections: each on a new PostgreSQL of its own, alone or one after the other."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from django.core.management import call_command

from benchmarks import report, stage
from benchmarks.databases import database
from benchmarks.report import Section

Measure = Callable[[stage.Sizes], Section]


def main(module: str, measure: Measure, description: str | None) -> int:
    """The command line of a section: `python -m benchmarks.NAME` measures it and prints its tables."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--tiny", action="store_true", help="small counts: does it work at all?")
    parser.add_argument(
        "--here", type=Path, help="on the database of DATABASE_URL, which is new; write there"
    )
    options = parser.parse_args()
    if options.here:
        save(options.here, timed(measure, stage.TINY if options.tiny else stage.FULL))
        return 0
    (section,) = on_its_own(module, *(["--tiny"] if options.tiny else []))
    report.print_section(section)
    return 0


def timed(measure: Measure, sizes: stage.Sizes) -> Section:
    call_command("migrate", verbosity=0)
    began = time.perf_counter()
    section = measure(sizes)
    section.seconds, section.when = time.perf_counter() - began, report.now()
    return section


def save(path: Path, *sections: Section) -> None:
    path.write_text(json.dumps([asdict(section) for section in sections]), encoding="utf-8")


def on_its_own(module: str, *options: str) -> list[Section]:
    """Run a module in a process that has a new database; return the sections that it measured there."""
    with database("postgres") as url, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sections.json"
        command = [sys.executable, "-m", module, "--here", str(path), *options]
        env = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
        subprocess.run(command, env=env, check=True)
        return [report.read_section(fields) for fields in json.loads(path.read_text(encoding="utf-8"))]
