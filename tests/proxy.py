"""A TCP proxy on the loopback interface that forwards well or badly: `Fault` says how."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any, Self

ANSWER_SECONDS = 10


class Fault(Enum):
    """What goes wrong from now on, for the connections that there are and those that come."""

    REFUSE = auto()  # nobody listens
    HANG = auto()  # connections are taken, and no byte comes through
    RESET = auto()  # every connection ends in an RST
    SLOW = auto()  # every piece of an answer comes `delay` seconds late
    CORRUPT = auto()  # the bytes of answers are others
    CUT = auto()  # half of the next answer, then the end


class Proxy:
    """Stands at `port` before another port; after `fail` it does harm, after `heal` none."""

    def __init__(self, target: int, *, delay: float = 0.2) -> None:
        self.delay = delay
        self._target = target
        self._fault: Fault | None = None
        self._healthy = asyncio.Event()
        self._healthy.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def fail(self, fault: Fault) -> None:
        self._do(self._become(fault))

    def heal(self) -> None:
        self._do(self._become(None))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_SECONDS)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _become(self, fault: Fault | None) -> None:
        self._fault = fault
        if fault is None:
            self._healthy.set()
        else:
            self._healthy.clear()
        if fault in {Fault.REFUSE, Fault.RESET}:
            self._reset_all()
        if self._server and fault is Fault.REFUSE:
            self._server.close()
            self._server = None
        if self._server is None and fault is not Fault.REFUSE:
            await self._listen()

    def _reset_all(self) -> None:
        for writer in [writer for writer in self._writers if not writer.is_closing()]:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self._fault is Fault.RESET:
            self._reset_all()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(far_writer)
        pumps = (self._pump(reader, far_writer, back=False), self._pump(far_reader, writer, back=True))
        await asyncio.gather(*pumps, return_exceptions=True)
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(await self._harmed(data) if back else data)
                await writer.drain()
                if back and self._fault is Fault.CUT:
                    break
        finally:
            writer.close()

    async def _harmed(self, data: bytes) -> bytes:
        """A piece of an answer as it arrives under the present fault."""
        match self._fault:
            case Fault.HANG:
                await self._healthy.wait()
            case Fault.SLOW:
                await asyncio.sleep(self.delay)
            case Fault.CORRUPT:
                return bytes(byte ^ 0x55 for byte in data)
            case Fault.CUT:
                return data[: len(data) // 2]
        return data

    async def _end(self) -> None:
        await self._become(None)
        if self._server:
            self._server.close()
        self._reset_all()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
