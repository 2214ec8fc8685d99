"""`manage.py dev`: the whole stack on one machine, without containers; Ctrl-C stops all of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from convo.management import embedded

STOP_SECONDS = 15


class Command(BaseCommand):
    help = "Run the whole stack (PostgreSQL, Valkey, Celery, web server) until Ctrl-C; .dev/ keeps the data."
    # The server that it starts makes the checks.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--data", type=Path, default=Path(".dev"), help="where the data is kept (%(default)s)"
        )
        parser.add_argument("--port", default="", help="the port, or the next free one if it is taken")

    def handle(self, *, data: Path, port: str, **options: Any) -> None:
        if embedded.missing:
            raise CommandError(
                f"{embedded.missing} is not installed. Get it: pip install -r tests/requirements.txt"
            )
        interrupt_on_signals()
        try:
            with ExitStack() as stack:
                self.run_all(stack, data.resolve(), port)
        except KeyboardInterrupt:
            self.stdout.write("All stopped. The data is kept.")

    def run_all(self, stack: ExitStack, data: Path, port: str) -> None:
        """Start everything, each on what stands before it, and wait until somebody or something ends it."""
        data.mkdir(parents=True, exist_ok=True)
        database_url = stack.enter_context(embedded.postgres(data / "postgres"))
        redis_url = stack.enter_context(embedded.valkey(data / "valkey"))
        self.stdout.write(
            f"For commands beside this one:\nexport DATABASE_URL='{database_url}' REDIS_URL='{redis_url}'"
        )
        self.stdout.flush()
        # Set but empty would mean no Celery, and left out `.env` could name another.
        ours = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "CELERY_BROKER_URL": f"{redis_url}/1"}
        env = {**os.environ, **ours}
        with running(manage("migrate", "--verbosity", "0"), env) as migrate:
            if migrate.wait():
                raise CommandError("The migrations failed.")
        worker = stack.enter_context(running(celery(data), env))
        web = stack.enter_context(running(manage("serve", *(["--port", port] if port else [])), env))
        ended = first_to_end({worker.pid: "The Celery worker", web.pid: "The web server"})
        raise CommandError(f"{ended} ended by itself, so everything was stopped. The data is kept.")


def manage(*args: str) -> list[str]:
    return [sys.executable, sys.argv[0], *args]


def celery(data: Path) -> list[str]:
    """The command of a worker, with beat inside it, of the project that these settings belong to."""
    project = str(settings.SETTINGS_MODULE).split(".")[0]
    schedule = str(data / "celerybeat-schedule")
    worker = ["worker", "--beat", "--schedule", schedule, "--pool", "threads", "--concurrency", "4"]
    quiet = ["--loglevel", "warning", "--without-gossip", "--without-mingle"]
    return [sys.executable, "-m", "celery", "--quiet", "--app", project, *worker, *quiet]


@contextmanager
def running(command: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """This command as a child that is gone, with its own children, when the block is left."""
    # A session of its own, so that a terminal's Ctrl-C comes here alone and things end in order.
    process = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def first_to_end(names: Mapping[int, str]) -> str:
    """Wait for the first child that ends, and leave it to whoever waits for it by its process."""
    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    return names.get(ended.si_pid if ended else 0, "Valkey")


def interrupt_on_signals() -> None:
    """Let the first SIGINT or SIGTERM end the command, and later ones not disturb its clearing up."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
