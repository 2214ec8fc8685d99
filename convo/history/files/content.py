"""Read, check, name and count the images and files in the parts of an item."""

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
from convo.history.files.images import IMAGE_TYPES, image_of
from convo.tokens.estimate import upper_bound
from convo.tokens.images import image_cost, max_image_cost

TEXT_TYPE, PDF_TYPE, BINARY_TYPE = "text/plain", "application/pdf", "application/octet-stream"

# The field of each type of part that holds its data, or its URL.
_DATA_FIELDS = {"input_image": "image_url", "computer_screenshot": "image_url", "input_file": "file_data"}
# The field of each type of item that holds its parts.
_PART_LIST_FIELDS = {
    "message": "content",
    "function_call_output": "output",
    "custom_tool_call_output": "output",
}
# The prefix of a data URL, up to its base64 data.
_DATA_URL_PREFIX = re.compile(r"data:[^,]{0,200};base64,")
_BACKTICKS = re.compile(r"`{3,}")

PartFields = Mapping[str, Any]
ItemFields = Mapping[str, Any]


@dataclass(frozen=True)
class FileContent:
    """The decoded data of one part, its detected type and its cost in tokens."""

    data: bytes
    data_url_prefix: str  # the data URL's prefix; '' for bare base64
    mime: str  # detected from the data, whatever type was declared
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
    """An image or a file of a message, as the surfaces show it."""

    name: str
    mime: str
    size: int
    attachment_id: int | None = None  # None where the data is not stored as an attachment
    width: int = 0
    height: int = 0

    @property
    def is_image(self) -> bool:
        return self.mime in IMAGE_TYPES


def content_of(part: PartFields) -> FileContent | None:
    """Decode the data of a part; return None for a part without data, such as a URL or a reference.

    Raise InvalidRequest for data that is malformed, too long, or not of a supported type.
    """
    _, value = data_field(part)
    if not isinstance(value, str):
        return None
    is_file = part.get("type") == "input_file"
    prefix = _data_url_prefix(value)
    if not (prefix or is_file):
        # An image without a data URL is at the URL that stands here.
        return None
    data = decode_base64(value[len(prefix) :])
    if is_file:
        return _file_content(data, prefix, file_name_of(part))
    return _image_content(data, prefix, str(part.get("detail")))


def data_field(part: PartFields) -> tuple[str, Any]:
    """Return the name and the value of the field for the data of such a part, or '' and None without one.

    The value is data as text, a URL, or a mapping: the reference to a stored attachment.
    """
    field = _DATA_FIELDS.get(str(part.get("type")), "")
    return field, part.get(field)


def check_part(part: PartFields, path: str) -> None:
    """Raise InvalidRequest, with the field as its param, for data that `content_of` refuses."""
    field, _ = data_field(part)
    try:
        content_of(part)
    except InvalidRequest as error:
        param = f"{path}.{field}"
        raise InvalidRequest(f"Invalid '{param}': {error.message}", param=param) from error


def _image_content(data: bytes, prefix: str, detail: str) -> FileContent:
    image = image_of(data)
    if image is None:
        raise InvalidRequest("this is not an image. Send a PNG, JPEG, GIF or WebP file.")
    cost = image_cost(image.width, image.height, detail)
    return FileContent(data, prefix, image.mime, cost, image.width, image.height)


def _file_content(data: bytes, prefix: str, name: str) -> FileContent:
    if data.startswith(b"%PDF-"):
        return FileContent(data, prefix, PDF_TYPE, len(data))
    text = decode_text(data)
    if text is None:
        # This binary can't be read here, so it counts one token per byte: an upper bound for any model.
        return FileContent(data, prefix, BINARY_TYPE, len(data))
    max_bytes = conf().max_text_file
    if len(data) > max_bytes:
        raise InvalidRequest(f"this text has {len(data)} bytes, but at most {max_bytes} are allowed.")
    return FileContent(data, prefix, TEXT_TYPE, upper_bound(fence_text(name, text)))


def _data_url_prefix(value: str) -> str:
    match = _DATA_URL_PREFIX.match(value)
    if value.startswith("data:") and not match:
        raise InvalidRequest("this data URL is not encoded in base64.")
    return match[0] if match else ""


def decode_base64(text: str) -> bytes:
    """Decode base64, refusing all but its canonical form: what goes out has to equal what came in."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("this is not base64.") from error
    if encode_base64(data) != text:
        raise InvalidRequest("this is not canonical base64. Encode the data again with a standard encoder.")
    return data


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def decode_text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def file_name_of(part: PartFields) -> str:
    file_name = part.get("filename")
    return clean_name(file_name) if isinstance(file_name, str) else ""


def clean_name(file_name: str) -> str:
    """Return a file name on one line, without folders, double quotes and unprintable characters."""
    base_name = re.split(r"[/\\]", file_name)[-1]
    return "".join(char for char in base_name if char.isprintable() and char != '"').strip()[:200]


def fence_text(name: str, text: str) -> str:
    """Return a file's text as a model reads it: under its name, in a fence that the text doesn't contain."""
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f'File "{name or "file"}":\n{fence}\n{text.rstrip()}\n{fence}'


def text_for_model(part: PartFields) -> str | None:
    """Return the text of a file part, for a model that reads only text; None for any other part."""
    if part.get("type") != "input_file":
        return None
    content = content_or_none(part)
    text = decode_text(content.data) if content and content.mime == TEXT_TYPE else None
    return None if text is None else fence_text(file_name_of(part), text)


def parts_of(item: ItemFields | None) -> Iterator[PartFields]:
    value = item.get(_part_list_field(item)) if item else None
    if isinstance(value, list):
        yield from (part for part in value if isinstance(part, Mapping))


def map_parts(item: ItemFields, change: Callable[[PartFields], PartFields]) -> dict[str, Any]:
    """Return the item with each of its parts replaced by `change(part)`."""
    field = _part_list_field(item)
    value = item.get(field)
    if not isinstance(value, list):
        return dict(item)
    return {**item, field: [change(part) if isinstance(part, Mapping) else part for part in value]}


def _part_list_field(item: ItemFields) -> str:
    # The parts of these types were checked when their item came in; items of other types may hold anything.
    return _PART_LIST_FIELDS.get(str(item.get("type", "message")), "")


def without_data(item: ItemFields) -> tuple[dict[str, Any], int]:
    """Return the item without the data of its images and files, and the tokens that all of them take.

    The rest of the item is counted as text, as the data is not. Images at URLs stay as they are, but count.
    """
    costs: list[int] = []

    def without_part_data(part: PartFields) -> PartFields:
        field, value = data_field(part)
        content = None if isinstance(value, Mapping) else content_or_none(part)
        costs.append(_cost_of_data(part, content))
        return {**part, field: ""} if content or isinstance(value, Mapping) else part

    return map_parts(item, without_part_data), sum(costs)


def _cost_of_data(part: PartFields, content: FileContent | None) -> int:
    """Return the tokens of a part's image or file: as stored, as counted, or what one at a URL may take."""
    field, value = data_field(part)
    if isinstance(value, Mapping):
        return int(value.get("tokens") or 0)
    if content:
        return content.tokens
    return max_image_cost(str(part.get("detail"))) if value and field == "image_url" else 0


def with_hashes(item: ItemFields | None) -> dict[str, Any] | None:
    """Return the item with hashes in place of data: the same for inline data and for a stored attachment."""

    def with_hash(part: PartFields) -> PartFields:
        field, value = data_field(part)
        if isinstance(value, Mapping):
            return {**part, field: f"{value['head']}{value['sha256']}"}
        content = content_or_none(part)
        return {**part, field: f"{content.data_url_prefix}{content.sha256}"} if content else part

    return map_parts(item, with_hash) if item else None


def hashes(item: ItemFields | None) -> list[str]:
    """Return a short string for each image and file of this item that identifies its content."""
    return [str(value) for field, value in map(data_field, parts_of(with_hashes(item))) if field]


def content_or_none(part: PartFields) -> FileContent | None:
    try:
        return content_of(part)
    except InvalidRequest:
        return None


def files_of(item: ItemFields | None) -> list[File]:
    files = (_file_of(part) for part in parts_of(item))
    return [file for file in files if file]


def _file_of(part: PartFields) -> File | None:
    _, value = data_field(part)
    name = file_name_of(part) or ("file" if part.get("type") == "input_file" else "image")
    if isinstance(value, Mapping):
        size, attachment = value["size"], value["attachment"]
        dimensions = {"width": value["width"], "height": value["height"]}
        return File(name=name, mime=value["mime"], size=size, attachment_id=attachment, **dimensions)
    content = content_or_none(part)
    if content is None:
        return None
    dimensions = {"width": content.width, "height": content.height}
    return File(name=name, mime=content.mime, size=len(content.data), **dimensions)
