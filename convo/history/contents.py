"""What the parts of an item bring along: images and files, read, checked, named and counted."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from convo.conf import conf
from convo.errors import InvalidRequest
from convo.history.images import IMAGE_TYPES, image_of
from convo.tokens.estimate import at_most
from convo.tokens.images import greatest_cost, image_cost

TEXT, PDF, OTHER = "text/plain", "application/pdf", "application/octet-stream"

# The field in which a part of each type brings its data, or says where it is.
FIELDS = {"input_image": "image_url", "computer_screenshot": "image_url", "input_file": "file_data"}
_PARTS = {"message": "content", "function_call_output": "output", "custom_tool_call_output": "output"}
# What a data URL says before its data.
_HEAD = re.compile(r"data:[^,]{0,200};base64,")
_BACKTICKS = re.compile(r"`{3,}")

Part = Mapping[str, Any]
Item = Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """What one part brings along."""

    data: bytes
    head: str  # what stood before the data
    mime: str  # what the data is, whatever it was said to be
    tokens: int
    width: int = 0
    height: int = 0

    @cached_property
    def sha256(self) -> str:
        return sha256(self.data).hexdigest()

    @property
    def key(self) -> tuple[str, str]:
        return self.sha256, self.mime


@dataclass(frozen=True, kw_only=True)
class File:
    """An image or a file of a message, as it is shown."""

    name: str
    mime: str
    size: int
    attachment: int | None = None  # None where nothing is kept
    width: int = 0
    height: int = 0

    @property
    def is_image(self) -> bool:
        return self.mime in IMAGE_TYPES


def content_of(part: Part) -> Content | None:
    """What this part brings along; None when it only says where it is. InvalidRequest when it is neither."""
    kind = str(part.get("type"))
    value = part.get(FIELDS.get(kind, ""))
    if not isinstance(value, str):
        return None
    is_file = kind == "input_file"
    head = _head_of(value)
    if not (head or is_file):
        return None
    data = decoded(value[len(head) :])
    return _file(data, head, name_of(part)) if is_file else _image(data, head, str(part.get("detail")))


def check(part: Part, at: str) -> None:
    """Is what this part brings along of a kind that is taken? The mistake has the place of its field."""
    field = FIELDS.get(str(part.get("type")), "")
    try:
        content_of(part)
    except InvalidRequest as error:
        place = f"{at}.{field}"
        raise InvalidRequest(f"Invalid '{place}': {error.message}", param=place) from error


def _image(data: bytes, head: str, detail: str) -> Content:
    found = image_of(data)
    if found is None:
        raise InvalidRequest("this is no image. PNG, JPEG, GIF and WebP are taken.")
    cost = image_cost(found.width, found.height, detail)
    return Content(data, head, found.mime, cost, found.width, found.height)


def _file(data: bytes, head: str, name: str) -> Content:
    if data.startswith(b"%PDF-"):
        return Content(data, head, PDF, len(data))
    text = text_of(data)
    if text is None:
        # Nobody here can read it, so a token a byte: a model that can has nothing like that many.
        return Content(data, head, OTHER, len(data))
    most = conf().max_text_file
    if len(data) > most:
        raise InvalidRequest(f"this text has {len(data)} bytes; a text file has at most {most}.")
    return Content(data, head, TEXT, at_most(fenced(name, text)))


def _head_of(value: str) -> str:
    found = _HEAD.match(value)
    if value.startswith("data:") and not found:
        raise InvalidRequest("this data URL is not in base64.")
    return found[0] if found else ""


def decoded(text: str) -> bytes:
    """The data of this base64, which must be the one way to write it: what goes out is what came in."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("this is not base64.") from error
    if encoded(data) != text:
        raise InvalidRequest("this is not base64 as it is usually written.")
    return data


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def text_of(data: bytes) -> str | None:
    """The text that these bytes are; None for anything else."""
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def name_of(part: Part) -> str:
    """The name under which the part is told: of one line, and without quotes."""
    given = part.get("filename")
    return clean_name(given) if isinstance(given, str) else ""


def clean_name(given: str) -> str:
    """A file's name without the folders before it, or anything that could not be shown."""
    last = re.split(r"[/\\]", given)[-1]
    return "".join(sign for sign in last if sign.isprintable() and sign != '"').strip()[:200]


def fenced(name: str, text: str) -> str:
    """A file's text as a model reads it: under its name, within a fence that is not in it."""
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f'File "{name or "file"}":\n{fence}\n{text.rstrip()}\n{fence}'


def readable(part: Part) -> str | None:
    """The text of a file for a model that reads nothing else; None for what is no text."""
    if part.get("type") != "input_file":
        return None
    content = _content_or_none(part)
    text = text_of(content.data) if content and content.mime == TEXT else None
    return None if text is None else fenced(name_of(part), text)


def parts_of(item: Item | None) -> Iterator[Part]:
    """The parts of an item that has any."""
    value = item.get(_place_of_parts(item)) if item else None
    if isinstance(value, list):
        yield from (part for part in value if isinstance(part, Mapping))


def changed(item: Item, change: Callable[[Part], Part]) -> dict[str, Any]:
    """The item with each of its parts as `change` makes it."""
    name = _place_of_parts(item)
    value = item.get(name)
    if not isinstance(value, list):
        return dict(item)
    return {**item, name: [change(part) if isinstance(part, Mapping) else part for part in value]}


def _place_of_parts(item: Item) -> str:
    # Of these all parts were looked at when they came; nobody knows what others hold.
    return _PARTS.get(str(item.get("type", "message")), "")


def weighed(item: Item) -> tuple[dict[str, Any], int]:
    """The item without what its parts bring along, and how many tokens that takes."""
    spent = 0

    def bare(part: Part) -> Part:
        nonlocal spent
        field = FIELDS.get(str(part.get("type")), "")
        value = part.get(field)
        if isinstance(value, Mapping):
            spent += int(value.get("tokens") or 0)
        elif content := _content_or_none(part):
            spent += content.tokens
        else:
            if value and field == "image_url":
                spent += greatest_cost(str(part.get("detail")))
            return part
        return {**part, field: ""}

    return changed(item, bare), spent


def alike(item: Item | None) -> dict[str, Any] | None:
    """The item with hashes in place of data: the same whether the data is in it or kept apart."""

    def named(part: Part) -> Part:
        field = FIELDS.get(str(part.get("type")), "")
        value = part.get(field)
        if isinstance(value, Mapping):
            return {**part, field: f"{value['head']}{value['sha256']}"}
        content = _content_or_none(part)
        return {**part, field: f"{content.head}{content.sha256}"} if content else part

    return changed(item, named) if item else None


def marks(item: Item | None) -> list[str]:
    """What tells this item's images and files from others, in few characters each."""
    fields = (FIELDS.get(str(part.get("type")), "") for part in parts_of(item))
    shown = zip(fields, parts_of(alike(item)), strict=True)
    return [str(part.get(field)) for field, part in shown if field]


def _content_or_none(part: Part) -> Content | None:
    """What a part brings along, where it is of a kind that is taken."""
    try:
        return content_of(part)
    except InvalidRequest:
        return None


def files_of_item(item: Item | None) -> list[File]:
    """The images and files that an item shows."""
    found = (_file_shown(part) for part in parts_of(item))
    return [file for file in found if file]


def _file_shown(part: Part) -> File | None:
    value = part.get(FIELDS.get(str(part.get("type")), ""))
    name = name_of(part) or ("file" if part.get("type") == "input_file" else "image")
    if isinstance(value, Mapping):
        size, place = value["size"], value["attachment"]
        sides = {"width": value["width"], "height": value["height"]}
        return File(name=name, mime=value["mime"], size=size, attachment=place, **sides)
    content = _content_or_none(part)
    if content is None:
        return None
    sides = {"width": content.width, "height": content.height}
    return File(name=name, mime=content.mime, size=len(content.data), **sides)
