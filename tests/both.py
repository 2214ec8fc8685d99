"""All tests, on SQLite and on PostgreSQL side by side: `python -m tests.both`; options go to pytest.

Two runs for each database share its files: whichever run comes to a file first has it. The tests that prove
nothing about databases are marked `once`, and all four share these. There are two runs for each because many
tests wait, for a process to start or a lease to end, and the processors would have nothing to do. What the
first run writes is shown as it comes, and what each of the others wrote after that.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from typing import IO

RUNS = [
    [f"--database={database}", *order]
    for order in ([], ["--backwards"])
    for database in ("sqlite", "postgres")
]

# Twice what the slowest machine took, and less than a CI job has.
MAX_SECONDS = 75 * 60
NOTHING_TO_DO = 5  # pytest's own


def begin(options: list[str], output: IO[str] | None) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pytest", "--durations=10", *options]
    # Hundreds of processes read the same modules, so that they are compiled once whatever this shell says.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(command, stdout=output, stderr=output and subprocess.STDOUT, text=True, env=env)


def main(options: list[str]) -> int:
    with ExitStack() as stack:
        claims = stack.enter_context(tempfile.TemporaryDirectory(prefix="convo-claims-"))
        outputs = [
            stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
            for _ in RUNS[1:]
        ]
        runs = [
            begin([*run, f"--claims={claims}", *options], output)
            for run, output in zip(RUNS, [None, *outputs], strict=True)
        ]

        def stop(*_: object) -> None:
            for run in runs:
                run.terminate()

        signal.signal(signal.SIGTERM, stop)
        # A run that hangs even when a test of it has timed out is stopped, and says what it did until then.
        deadline = threading.Timer(MAX_SECONDS, stop)
        deadline.daemon = True
        deadline.start()
        for run, output in zip(runs, [None, *outputs], strict=True):
            wait(run)
            if output:
                output.seek(0)
                print(output.read(), end="", flush=True)
        deadline.cancel()
    return worst({run.returncode for run in runs})


def wait(run: "subprocess.Popen[str]") -> None:
    """Wait for its end. Ctrl-C goes to the runs as well, and each stops the servers that it has started."""
    while True:
        try:
            run.wait()
            return
        except KeyboardInterrupt:
            continue


def worst(statuses: set[int]) -> int:
    """The exit status of all. That a run had nothing to do is only wrong if no other had either."""
    return max(map(abs, statuses - {NOTHING_TO_DO} or statuses))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
