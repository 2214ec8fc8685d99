"""From the bytes of an event stream to the data of its frames, wherever the network cut them."""

from convo.errors import Truncated


class Frames:
    """Cuts a stream of bytes into frames: feed it what arrives, it gives back the data of frames now whole.

    It works on bytes, so that a character cut in two is never decoded before its other half is here.
    Lines end in LF or CRLF; comments and fields other than `data` say nothing to us.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._unended: list[bytes] = []
        self._waiting = 0
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        lines = chunk.split(b"\n")
        # Kept in a list, for joining at every chunk would copy a long line over and over.
        self._unended.append(lines[0])
        self._waiting += len(lines[0])
        if self._waiting > self._max_bytes:
            raise Truncated("The model's answer came in one piece longer than CONVO_MAX_REPLY_BYTES.")
        if len(lines) == 1:
            return []
        lines[0] = b"".join(self._unended)
        self._unended = [lines.pop()]
        self._waiting = len(self._unended[0])
        return self._frames(lines)

    def _frames(self, lines: list[bytes]) -> list[bytes]:
        whole = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif self._data and line in (b"", b"\r"):
                whole.append(b"\n".join(self._data))
                self._data = []
        return whole
