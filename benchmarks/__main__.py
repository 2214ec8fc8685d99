"""`make bench`: measure Convo beside its peers, print the tables, and write docs/performance.

Figures are compared inside one run only. `ONLY=streams` measures one section and keeps the others' figures.
"""

import argparse
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks import report, running, stage
from benchmarks.report import Section

# In their order; each is a module of its own: `python -m benchmarks.NAME`.
SECTIONS = {
    "http": "benchmarks.http_requests",
    "streams": "benchmarks.streams",
    "store": "benchmarks.store",
    "growth": "benchmarks.growth",
    "storage": "benchmarks.storage",
    "background": "benchmarks.background",
    "resources": "benchmarks.resources",
}
PEERS = ("litellm", "langgraph", "langgraph-checkpoint-postgres", "openai-agents", "SQLAlchemy", "asyncpg")


def peer_versions() -> dict[str, str]:
    """Return the versions of the peers that are installed, or nothing."""
    code = "import sys; from importlib.metadata import version; [print(n, version(n)) for n in sys.argv[1:]]"
    try:
        ran = subprocess.run(
            [stage.peer_python(), "-c", code, *PEERS], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return {}
    return dict(line.split(" ", 1) for line in ran.stdout.splitlines())


def whole(names: list[str]) -> tuple[list[Section], list[str]]:
    """Measure each section in a process and a database of its own; return them and the names that failed."""
    sections, failed = list[Section](), list[str]()
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            sections += running.on_its_own(SECTIONS[name])
        except subprocess.CalledProcessError:
            failed.append(name)
            continue
        report.print_section(sections[-1])
    return sections, failed


def tiny(names: list[str]) -> tuple[list[Section], list[str]]:
    """Measure all of them in one process: most of a tiny section's time is the start of its own."""
    sections = running.on_its_own("benchmarks", "--tiny", "--only", ",".join(names))
    for section in sections:
        report.print_section(section)
    return sections, []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help=f"some of {', '.join(SECTIONS)}, separated by commas")
    parser.add_argument("--tiny", action="store_true", help="small counts: does it work at all?")
    parser.add_argument("--folder", type=Path, default=report.FOLDER)
    parser.add_argument("--here", type=Path, help="with --tiny, on the database of DATABASE_URL; write there")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or list(SECTIONS)
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"There is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}.")
    began = time.perf_counter()
    if options.here:
        measured = [running.timed(import_module(SECTIONS[name]).measure, stage.TINY) for name in names]
        running.save(options.here, *measured)
        return 0
    sections, failed = tiny(names) if options.tiny else whole(names)
    report.write(sections, options.folder, peer_versions())
    print(f"\n{time.perf_counter() - began:.0f} seconds; written to {options.folder}")
    if failed:
        print(f"Failed, so their figures are the old ones: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
