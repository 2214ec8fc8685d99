"""All tests, on SQLite and on PostgreSQL side by side: `python -m tests.both`; options go to pytest.

Tests that prove nothing about databases are marked `once`. Each file of these is run by whichever of the two
runs comes to it first, so that both end at about the same time. What the run on SQLite writes is shown as it
comes, and the other one's whole when both have ended.
"""

import signal
import subprocess
import sys
import tempfile
from typing import IO


def begin(database: str, options: list[str], output: IO[str] | None) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pytest", f"--database={database}", "--durations=10", *options]
    return subprocess.Popen(command, stdout=output, stderr=output and subprocess.STDOUT, text=True)


def ended(run: "subprocess.Popen[str]") -> int:
    """Its exit status. Ctrl-C goes to the runs as well, and each stops the servers that it has started."""
    while True:
        try:
            return run.wait()
        except KeyboardInterrupt:
            continue


def main(options: list[str]) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="convo-claims-") as claims,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as written,
    ):
        options = [f"--claims={claims}", *options]
        runs = [begin("postgres", options, written), begin("sqlite", options, None)]

        def stop(*_: object) -> None:
            for run in runs:
                run.terminate()

        signal.signal(signal.SIGTERM, stop)
        statuses = [ended(run) for run in runs]
        written.seek(0)
        print(written.read(), end="", flush=True)
    return max(map(abs, statuses))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
