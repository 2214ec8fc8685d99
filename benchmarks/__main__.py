"""Measure Convo, on databases and servers that are started here. `COMMAND --help` tells its options.

Figures are compared inside one run only. docs/performance/index.md says how they are made.
"""

import argparse
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import (
    background,
    concurrency,
    endurance,
    growth,
    http_requests,
    pages,
    report,
    resources,
    running,
    search,
    soak,
    stage,
    storage,
    store,
    streams,
)
from benchmarks.report import Section
from benchmarks.stage import FULL, TINY, Sizes

# In the order of a run.
SECTIONS: dict[str, Callable[[Sizes], Section]] = {
    "http": http_requests.measure,
    "streams": streams.measure,
    "store": store.measure,
    "growth": growth.measure,
    "storage": storage.measure,
    "background": background.measure,
    "resources": resources.measure,
}
PEERS = ("litellm", "langgraph", "langgraph-checkpoint-postgres", "openai-agents", "SQLAlchemy", "asyncpg")


def parser() -> ArgumentParser:
    root = ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (description, run, *add_options) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        command.set_defaults(run=run)
        # The process that measures writes its figures there, for the one that started it.
        command.add_argument("--here", type=Path, help=argparse.SUPPRESS)
        for add in add_options:
            add(command)
    return root


def add_bench_options(command: ArgumentParser) -> None:
    command.add_argument("--only", default="", help=f"some of {', '.join(SECTIONS)}, separated by commas")
    command.add_argument("--tiny", action="store_true", help="small counts: does it work at all?")


def bench(options: Namespace) -> int:
    names = [name for name in options.only.split(",") if name] or list(SECTIONS)
    if unknown_names := set(names) - set(SECTIONS):
        print(
            f"There is no section {', '.join(unknown_names)}; there are {', '.join(SECTIONS)}.",
            file=sys.stderr,
        )
        return 2
    sizes = TINY if options.tiny else FULL
    if options.here:
        return running.save(options.here, *(partial(SECTIONS[name], sizes) for name in names))
    start = time.perf_counter()
    if options.tiny:
        # In one process: most of a tiny section's time is the start of its own.
        sections = measure_and_print(names, "--tiny")
    else:
        sections = [section for name in names for section in measure_and_print([name])]
    report.write(sections, options.folder, peer_versions())
    print(f"\n{time.perf_counter() - start:.0f} seconds; written to {options.folder}")
    missing = set(names) - {section.name for section in sections}
    if missing:
        print(f"Failed, so their figures are the old ones: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


def measure_and_print(names: list[str], *options: str) -> list[Section]:
    stage.progress(", ".join(names))
    sections = running.sections_of(["bench", "--only", ",".join(names), *options])
    for section in sections:
        report.print_section(section)
    return sections


def peer_versions() -> dict[str, str]:
    """Return the versions of the peers that are installed, or nothing."""
    code = "import sys; from importlib.metadata import version; [print(n, version(n)) for n in sys.argv[1:]]"
    try:
        process = subprocess.run(
            [stage.peer_python(), "-c", code, *PEERS], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return {}
    return dict(line.split(" ", 1) for line in process.stdout.splitlines())


# The help of each command, the function that runs it, and those that add its options.
COMMANDS: dict[str, tuple[Any, ...]] = {
    "bench": (
        "Convo beside its peers, in 15 minutes (make bench)",
        bench,
        add_bench_options,
        running.add_folder,
    ),
    "growth": (
        "requests among millions of messages (make bench-growth)",
        growth.run,
        growth.add_options,
        running.add_folder,
    ),
    "beside": (
        "a worker beside a busy web server (make bench-beside)",
        running.section_command(background.measure_beside),
        background.add_options,
        running.add_folder,
    ),
    "endurance": (
        "half an hour of mixed load, to see what grows (make endurance)",
        running.section_command(endurance.measure),
        endurance.add_options,
        running.add_folder,
    ),
    "soak": (
        "clients at random while servers are killed (make soak)",
        running.on_each_database(soak.measure),
        soak.add_options,
        running.add_databases,
    ),
    "writers": (
        "16 writers on one session, beside raw inserts",
        running.on_each_database(concurrency.measure),
        concurrency.add_options,
        running.add_databases,
    ),
    "pages": (
        "the chat page after years of talk",
        running.on_each_database(pages.measure),
        pages.add_options,
        running.add_databases,
    ),
    "search": (
        "indexing beside streamed replies, and searches",
        running.on_each_database(search.measure),
        search.add_options,
        running.add_databases,
    ),
}


def main() -> int:
    options = parser().parse_args()
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
