"""`manage.py serve`: run the web server on the loopback interface, for a person at a terminal."""

import contextlib
import errno
import socket
from collections.abc import Callable

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections

from convo import database
from convo.conf import conf

HOST = "127.0.0.1"
PORTS_TO_TRY = 50
SHUTDOWN_SECONDS = 5


class Server(uvicorn.Server):
    """A Uvicorn server that calls `announce` once it accepts requests."""

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

    def handle(self, *, port: int, access_log: bool, **options: object) -> None:
        require_migrated_database()
        listener = listen(port)
        actual_port = listener.getsockname()[1]
        if port and actual_port != port:
            self.stdout.write(f"Port {port} is taken, so port {actual_port} is used instead.")
        message = f"http://{HOST}:{actual_port}/\n{model_notice()} Ctrl-C stops the server."
        server = Server(uvicorn_config(access_log=access_log), lambda: self.announce(message))
        # Uvicorn raises the signal again after it has shut down gracefully.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])

    def announce(self, message: str) -> None:
        self.stdout.write(message)
        self.stdout.flush()


def require_migrated_database() -> None:
    """Raise a CommandError unless the database answers and has every table."""
    try:
        database.refuse_old_tables()
        missing = database.count_unapplied_migrations()
    except DatabaseError as error:
        raise CommandError(f"The database does not answer: {error}") from error
    finally:
        connections.close_all()
    if missing:
        raise CommandError(f"The database lacks {missing} migrations. Run `manage.py migrate` first.")


def listen(first_port: int) -> socket.socket:
    """Return a socket that holds this port or the next free one, so that no other process can take it."""
    ports = range(first_port, min(first_port + PORTS_TO_TRY, 65536))
    for port in ports:
        try:
            return socket.create_server((HOST, port), backlog=2048)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CommandError(f"Port {port} cannot be used: {error.strerror}.") from error
    raise CommandError(f"No port from {first_port} to {ports[-1]} is free. Name another with --port or PORT.")


def uvicorn_config(*, access_log: bool) -> uvicorn.Config:
    """Return Uvicorn's configuration for the project's ASGI application."""
    module, _, attribute = settings.ASGI_APPLICATION.rpartition(".")
    return uvicorn.Config(
        f"{module}:{attribute}",
        http="httptools",
        ws="none",
        # With "auto" instead of "on", Uvicorn would ignore a failure at startup.
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        access_log=access_log,
        # Django's LOGGING setting decides where the log lines go.
        log_config=None,
        log_level="info" if access_log else "warning",
    )


def model_notice() -> str:
    """Return a sentence that names the model behind the replies."""
    if conf().offline:
        return "No model is configured, so the offline responder answers; set OPENAI_API_KEY for a model."
    return f"{conf().model or 'The agents’ models'} at {conf().openai_base_url or 'api.openai.com'} answers."
