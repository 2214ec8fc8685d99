"""A door before a server: who comes in is led on to it, turned away, or told something else."""

import socket
import struct
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

Greeting = bytes | None
RESET = b""
COME_IN = None


class Door:
    """`url` leads to the server at the other URL; the first who come get one of the `greetings` each.

    A greeting is written in place of an answer, after the request was read; RESET hangs up without one.
    """

    def __init__(self, url: str, *greetings: Greeting) -> None:
        self.came = 0
        self._behind = urlsplit(url)
        self._greetings = list(greetings)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        port = self._listener.getsockname()[1]
        self.url = self._behind._replace(netloc=f"127.0.0.1:{port}").geturl()
        threading.Thread(target=self._open, daemon=True).start()

    def _open(self) -> None:
        while True:
            try:
                visitor = self._listener.accept()[0]
            except OSError:
                return
            self.came += 1
            self._sockets.append(visitor)
            greeting = self._greetings.pop(0) if self._greetings else COME_IN
            if greeting is not None:
                _turn_away(visitor, greeting)
            else:
                server = socket.create_connection((self._behind.hostname, self._behind.port))
                self._sockets.append(server)
                for pair in ((visitor, server), (server, visitor)):
                    threading.Thread(target=_lead, args=pair, daemon=True).start()

    def hang_up(self) -> None:
        """End the visits of all who are inside."""
        self._shut(*self._sockets)

    def close(self) -> None:
        self._shut(self._listener, *self._sockets)

    def _shut(self, *sockets: socket.socket) -> None:
        for open_ in sockets:
            # Threads that wait for it are only woken by this.
            with suppress(OSError):
                open_.shutdown(socket.SHUT_RDWR)
            open_.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _turn_away(visitor: socket.socket, greeting: bytes) -> None:
    visitor.recv(1_000_000)
    if greeting == RESET:
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        visitor.sendall(greeting)
    visitor.close()


def _lead(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
