"""Is every promise guarded? Breaks the code as tests/mutants.toml says, and expects its tests to fail.

Run by `make mutants`. Each entry is tried in a copy of the project, never in the working tree.
"""

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = Path(__file__).with_name("mutants.toml")
AT_ONCE = 2
PATIENCE_SECONDS = 120
FAREWELL_SECONDS = 30
PASSED, FAILED = 0, 1


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """An edit that breaks a promise, and the tests that must notice."""

    promise: str
    file: str
    find: str
    replace: str
    tests: list[str]
    database: str = "sqlite"

    @contextmanager
    def applied(self, tree: Path) -> Iterator[None]:
        """The tree with this edit made; as it was afterwards."""
        path = tree / self.file
        source = path.read_text(encoding="utf-8")
        path.write_text(source.replace(self.find, self.replace), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(source, encoding="utf-8")

    def misfit(self) -> str:
        """Why this edit can't be made, or nothing."""
        path = ROOT / self.file
        count = path.read_text(encoding="utf-8").count(self.find) if path.is_file() else 0
        return "" if count == 1 else f"{self.promise}: `find` occurs {count} times in {self.file}, not once"


def copied(folder: Path) -> Path:
    """A copy of the files that git knows or would take, below this folder."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def pytest(tree: Path, tests: list[str], database: str) -> tuple[int | None, str]:
    """The exit status of these tests in this tree (none if they had to be ended) and what pytest wrote."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--database={database}",
            *tests,
        ],
        cwd=tree,
        # Without cached bytecode: an edit of the same length in the same second would go unseen.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        written = process.communicate(timeout=PATIENCE_SECONDS)[0]
        return process.returncode, written
    except subprocess.TimeoutExpired:
        # Asked first, so that it stops the servers it has started.
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(FAREWELL_SECONDS)
        return None, ""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def verdict(mutant: Mutant, trees: "queue.Queue[Path]") -> str:
    """What the tests said to this mutant: killed is good."""
    tree = trees.get()
    try:
        with mutant.applied(tree):
            status, written = pytest(tree, mutant.tests, mutant.database)
    finally:
        trees.put(tree)
    if status is None:
        return "killed (hung)"
    if status in {PASSED, FAILED}:
        return "killed" if status == FAILED else "SURVIVED"
    return f"ERROR: pytest ended with {status}\n{written}"


def unbroken(mutants: list[Mutant], tree: Path) -> bool:
    """Do all the named tests pass while nothing is broken?"""
    for database in sorted({mutant.database for mutant in mutants}):
        tests = {test for mutant in mutants if mutant.database == database for test in mutant.tests}
        status, written = pytest(tree, sorted(tests), database)
        if status != PASSED:
            print(f"{written}\nThese tests must pass before anything is broken ({database}).")
            return False
    return True


def tried(mutants: list[Mutant]) -> list[str]:
    """Try all of them, some at a time, reporting each; answers the verdicts that are not `killed`."""
    with ExitStack() as stack:
        trees: queue.Queue[Path] = queue.Queue()
        for _ in range(AT_ONCE):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="convo-mutants-"))
            trees.put(copied(Path(folder)))
        if not unbroken(mutants, trees.queue[0]):
            return ["unbroken tests failed"]
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        bad = []
        for mutant, said in zip(mutants, pool.map(lambda m: verdict(m, trees), mutants), strict=True):
            print(f"{said:14} {mutant.promise}", flush=True)
            bad += [] if said.startswith("killed") else [said]
        return bad


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="those whose promise or file has this text"
    )
    only = parser.parse_args().only
    entries = tomllib.loads(ENTRIES.read_text(encoding="utf-8"))["mutant"]
    mutants = [mutant for entry in entries if only in (mutant := Mutant(**entry)).promise + mutant.file]
    misfits = [misfit for mutant in mutants if (misfit := mutant.misfit())]
    if misfits or not mutants:
        print("\n".join(misfits) or f"No entry has {only!r}.")
        return 1
    started = time.monotonic()
    bad = tried(mutants)
    print(f"{len(mutants)} mutants, {len(bad)} not killed, {time.monotonic() - started:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
