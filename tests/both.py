"""All tests, on SQLite and on PostgreSQL side by side: `python -m tests.both`; options go to pytest.

Two runs for each database share its files: whichever run comes to a file first has it. The tests that prove
nothing about databases are marked `once`, and all four share these. There are two runs for each because many
tests wait, for a process to start or a lease to end, and the processors would have nothing to do. What the
first run writes is shown as it comes, and what the others write when all have ended.
"""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import IO

RUNS = [
    [f"--database={database}", *order]
    for order in ([], ["--backwards"])
    for database in ("sqlite", "postgres")
]


def begin(options: list[str], output: IO[str] | None) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pytest", "--durations=10", *options]
    # Hundreds of processes read the same modules, so that they are compiled once whatever this shell says.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(command, stdout=output, stderr=output and subprocess.STDOUT, text=True, env=env)


def ended(run: "subprocess.Popen[str]") -> int:
    """Its exit status. Ctrl-C goes to the runs as well, and each stops the servers that it has started."""
    while True:
        try:
            return run.wait()
        except KeyboardInterrupt:
            continue


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
        statuses = [ended(run) for run in runs]
        for output in outputs:
            output.seek(0)
            print(output.read(), end="", flush=True)
    return max(map(abs, statuses))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
