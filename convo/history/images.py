"""What an image says of itself in its first bytes: its format, whatever its name is, and its size."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

Size = tuple[int, int]

# Markers of a JPEG that begin a frame; the others of their range say something else.
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Image:
    """An image's format and its size in pixels."""

    mime: str
    width: int
    height: int


def image_of(data: bytes) -> Image | None:
    """The image that these bytes are, in one of the formats that models take; None for anything else."""
    for mime, (begins, measure) in _FORMATS.items():
        if data.startswith(begins):
            try:
                size = measure(data)
            except (struct.error, IndexError):
                return None
            return Image(mime, *size) if size and all(size) else None
    return None


def _png(data: bytes) -> Size | None:
    width, height = struct.unpack_from(">II", data, 16)
    return (width, height) if data[12:16] == b"IHDR" else None


def _gif(data: bytes) -> Size | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return (width, height) if data[4:6] in {b"7a", b"9a"} else None


def _jpeg(data: bytes) -> Size | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        # A marker may be filled up with any number of 0xFF before it.
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        return _three_bytes(data, 24) + 1, _three_bytes(data, 27) + 1
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _three_bytes(data: bytes, at: int) -> int:
    if len(data) < at + 3:
        raise IndexError
    return int.from_bytes(data[at : at + 3], "little")


_FORMATS: dict[str, tuple[bytes, Callable[[bytes], Size | None]]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n", _png),
    "image/jpeg": (b"\xff\xd8", _jpeg),
    "image/gif": (b"GIF8", _gif),
    "image/webp": (b"RIFF", _webp),
}
IMAGE_TYPES = tuple(_FORMATS)
