"""Read the format and the size of an image from its first bytes, whatever its name says."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

Size = tuple[int, int]

# These JPEG markers begin a frame; the three left out of the range mean something else.
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Image:
    """An image's format and its size in pixels."""

    mime: str
    width: int
    height: int


def image_of(data: bytes) -> Image | None:
    """Return the format and size of an image that models accept; None for any other data."""
    for mime, (signature, read_size) in _FORMATS.items():
        if data.startswith(signature):
            try:
                size = read_size(data)
            except (struct.error, IndexError):
                return None
            return Image(mime, *size) if size and all(size) else None
    return None


def _png_size(data: bytes) -> Size | None:
    width, height = struct.unpack_from(">II", data, 16)
    return (width, height) if data[12:16] == b"IHDR" else None


def _gif_size(data: bytes) -> Size | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return (width, height) if data[4:6] in {b"7a", b"9a"} else None


def _jpeg_size(data: bytes) -> Size | None:
    offset = 2
    while data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return width, height
        # Any number of 0xFF fill bytes may precede a marker.
        offset += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", data, offset + 2)[0]
    return None


def _webp_size(data: bytes) -> Size | None:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        return _uint24(data, 24) + 1, _uint24(data, 27) + 1
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _uint24(data: bytes, offset: int) -> int:
    if len(data) < offset + 3:
        raise IndexError
    return int.from_bytes(data[offset : offset + 3], "little")


_FORMATS: dict[str, tuple[bytes, Callable[[bytes], Size | None]]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n", _png_size),
    "image/jpeg": (b"\xff\xd8", _jpeg_size),
    "image/gif": (b"GIF8", _gif_size),
    "image/webp": (b"RIFF", _webp_size),
}
IMAGE_TYPES = tuple(_FORMATS)
