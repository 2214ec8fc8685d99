"""`manage.py serve`: the web server, on the loopback interface, for a person at a terminal."""

import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor

from convo.conf import conf

HOST = "127.0.0.1"
PORTS_TO_TRY = 50
SHUTDOWN_SECONDS = 5


class Server(uvicorn.Server):
    """Uvicorn that says when it answers."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


class Command(BaseCommand):
    help = "Serve Convo on 127.0.0.1 until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--port",
            type=int,
            default=getattr(settings, "PORT", 8000),
            help="the port, or the next free one if it is taken; 0 takes any (default: %(default)s)",
        )
        parser.add_argument("--access-log", action="store_true", help="write a line per request")

    def handle(self, *, port: int, access_log: bool, **options: Any) -> None:
        refuse_unmigrated()
        listener = listen(port)
        taken = listener.getsockname()[1]
        if port and taken != port:
            self.stdout.write(f"Port {port} is taken, so this is port {taken}.")
        lines = f"http://{HOST}:{taken}/\n{who_answers()} Ctrl-C stops the server."
        server = Server(configured(access_log=access_log), lambda: self.say(lines))
        # Uvicorn raises the signal again after it has shut down in good order.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])

    def say(self, lines: str) -> None:
        self.stdout.write(lines)
        self.stdout.flush()


def refuse_unmigrated() -> None:
    """Raise a CommandError unless the database answers and has every table."""
    try:
        executor = MigrationExecutor(connection)
        behind = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise CommandError(f"The database does not answer: {error}") from error
    finally:
        connections.close_all()
    if behind:
        raise CommandError(f"The database lacks {len(behind)} migrations. Run `manage.py migrate` first.")


def listen(first: int) -> socket.socket:
    """A listening socket on this port or, while it is taken, the next; held, so that nobody can take it."""
    ports = range(first, min(first + PORTS_TO_TRY, 65536))
    for port in ports:
        try:
            return socket.create_server((HOST, port), backlog=2048)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CommandError(f"Port {port} cannot be used: {error.strerror}.") from error
    raise CommandError(f"No port from {first} to {ports[-1]} is free. Name another with --port or PORT.")


def configured(*, access_log: bool) -> uvicorn.Config:
    package, _, name = settings.ASGI_APPLICATION.rpartition(".")
    return uvicorn.Config(
        f"{package}:{name}",
        http="httptools",
        ws="none",
        # On, not auto: a start that fails must be loud.
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        access_log=access_log,
        # Django's LOGGING decides where the lines go.
        log_config=None,
        log_level="info" if access_log else "warning",
    )


def who_answers() -> str:
    """One sentence that says where replies come from."""
    if conf().offline:
        return "No model is configured, so the offline responder answers; set OPENAI_API_KEY for a model."
    return f"{conf().model or 'The agents’ models'} at {conf().openai_base_url or 'api.openai.com'} answers."
