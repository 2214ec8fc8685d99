"""`manage.py dev`: run the whole stack on one machine, without containers; Ctrl-C stops all of it."""

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

from project import embedded

STOP_SECONDS = 15


class Command(BaseCommand):
    help = "Run the whole stack (PostgreSQL, Valkey, Celery, web server) until Ctrl-C; .dev/ keeps the data."
    # The server that this command starts runs the checks.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--data", type=Path, default=Path(".dev"), help="where the data is kept (%(default)s)"
        )
        parser.add_argument("--port", default="", help="the port, or the next free one if it is taken")

    def handle(self, *, data: Path, port: str, **options: Any) -> None:
        if embedded.missing:
            raise CommandError(
                f"{embedded.missing} is not installed. Install it: pip install -r tests/requirements.txt"
            )
        handle_stop_signals()
        try:
            with ExitStack() as stack:
                self.run_all(stack, data.resolve(), port)
        except KeyboardInterrupt:
            self.stdout.write("Everything is stopped. The data is kept.")

    def run_all(self, stack: ExitStack, data: Path, port: str) -> None:
        """Start every part after those that it needs, and wait until one ends or somebody interrupts."""
        data.mkdir(parents=True, exist_ok=True)
        database_url = stack.enter_context(embedded.postgres(data / "postgres"))
        redis_url = stack.enter_context(embedded.valkey(data / "valkey"))
        self.stdout.write(
            f"For other commands, set:\nexport DATABASE_URL='{database_url}' REDIS_URL='{redis_url}'"
        )
        self.stdout.flush()
        # The broker is always set: an empty value would mean no Celery, and without a value `.env` could
        # name another broker.
        addresses = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "CELERY_BROKER_URL": f"{redis_url}/1",
        }
        env = {**os.environ, **addresses}
        with child_process(manage_command("migrate", "--verbosity", "0"), env) as migrate:
            if migrate.wait():
                raise CommandError("The migrations failed.")
        worker = stack.enter_context(child_process(celery_command(data), env))
        web = stack.enter_context(
            child_process(manage_command("serve", *(["--port", port] if port else [])), env)
        )
        part = wait_for_first_exit({worker.pid: "The Celery worker", web.pid: "The web server"})
        raise CommandError(f"{part} ended by itself, so everything was stopped. The data is kept.")


def manage_command(*args: str) -> list[str]:
    return [sys.executable, sys.argv[0], *args]


def celery_command(data: Path) -> list[str]:
    """Return the command of a worker with beat inside it, for the project that the settings belong to."""
    project = str(settings.SETTINGS_MODULE).split(".")[0]
    schedule = str(data / "celerybeat-schedule")
    worker_options = ["worker", "--beat", "--schedule", schedule, "--pool", "threads", "--concurrency", "4"]
    quiet_options = ["--loglevel", "warning", "--without-gossip", "--without-mingle"]
    return [sys.executable, "-m", "celery", "--quiet", "--app", project, *worker_options, *quiet_options]


@contextmanager
def child_process(command: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run this command as a child process; end it, with its own children, when the block is left."""
    # In a new session the child gets no Ctrl-C from a terminal, so this process ends everything in order.
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


def wait_for_first_exit(names: Mapping[int, str]) -> str:
    """Wait for the first child that ends and return its name; its `Popen.wait()` still gets its status."""
    child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    return names.get(child.si_pid if child else 0, "Valkey")


def handle_stop_signals() -> None:
    """Turn the first SIGINT or SIGTERM into a KeyboardInterrupt, and ignore later ones during the cleanup."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
