"""Images and files are kept apart from the messages that show them, each once for a person.

What is to be written brings its data along; a message that is stored refers to it; and where messages leave,
to a model or to a caller, the data stands in them again as it came.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, TypeVar

from django.db.models import Exists, OuterRef, QuerySet

from convo.errors import InvalidRequest
from convo.history.contents import (
    FIELDS,
    TEXT,
    Content,
    File,
    Part,
    changed,
    clean_name,
    content_of,
    encoded,
    files_of_item,
    parts_of,
)
from convo.history.images import image_of
from convo.history.lines import Draft, Line
from convo.models import Attached, Attachment, Message

MOST_FILES = 10
# What stands in the place of an image or a file that is gone, which only a reader who came late can see.
GONE = {"type": "input_text", "text": "[a file that was deleted]"}

Key = tuple[str, str]
Row = TypeVar("Row", Line, Message)


@dataclasses.dataclass(frozen=True)
class Upload:
    """A file as somebody hands it over. What it is, its bytes say."""

    name: str
    data: bytes


def with_files(text: str, files: Sequence[Upload], place: str = "files") -> Draft:
    """A user's message with images and text files; InvalidRequest for a file that is neither."""
    if len(files) > MOST_FILES:
        raise InvalidRequest(f"A message takes at most {MOST_FILES} files.", param=place)
    if not files:
        return Draft(role="user", content=text)
    words = [{"type": "input_text", "text": text}] if text else []
    parts = [_uploaded(file, f"{place}[{index}]") for index, file in enumerate(files)]
    item = {"type": "message", "role": "user", "status": "completed", "content": [*words, *parts]}
    return Draft(role="user", content=text, item=item)


def _uploaded(file: Upload, place: str) -> dict[str, Any]:
    name, image = clean_name(file.name), image_of(file.data)
    shown = f"{name!r}" if name else "This file"
    mime = image.mime if image else TEXT
    url = f"data:{mime};base64,{encoded(file.data)}"
    part: dict[str, Any]
    if image:
        part = {"type": "input_image", "filename": name, "image_url": url, "detail": "auto"}
    else:
        part = {"type": "input_file", "filename": name, "file_data": url}
    try:
        content = content_of(part)
    except InvalidRequest as error:
        raise InvalidRequest(f"{shown}: {error.message}", param=place) from error
    if not file.data:
        raise InvalidRequest(f"{shown} is empty.", param=place)
    if image is None and (content is None or content.mime != TEXT):
        raise InvalidRequest(
            f"{shown} is neither an image (PNG, JPEG, GIF or WebP) nor a text in UTF-8.", param=place
        )
    return part


def files_of(message: Message) -> list[File]:
    """The images and files that a message shows; nothing is read for it."""
    return files_of_item(message.item)


def insert(person_id: int, rows: Sequence[Message]) -> None:
    """Insert these messages of a person's, and apart from them what they bring along."""
    parts = [part for row in rows for part in parts_of(row.item)]
    contents = {id(part): content for part in parts if (content := _taken(part))}
    keys = _kept(person_id, {content.key: content for content in contents.values()})

    def referring(part: Part) -> Part:
        content = contents.get(id(part))
        return _referring(part, content, keys[content.key]) if content else part

    for row in rows:
        row.item = changed(row.item, referring) if row.item else row.item
    Message.objects.bulk_create(rows)
    Attached.objects.bulk_create(
        Attached(message=row, attachment_id=attachment)
        for row in rows
        for attachment in dict.fromkeys(reference["attachment"] for reference in _references(row.item))
    )


def check_brought(rows: Sequence[Message]) -> None:
    """Refuse what only stored rows may say, where these keep what they bring along within."""
    for row in rows:
        for part in parts_of(row.item):
            _taken(part)


def _taken(part: Part) -> Content | None:
    """What a part brings along; what is no image or file after all stays where it is."""
    if _reference(part):
        # Only rows refer to what is kept: nobody may name what he does not bring.
        raise InvalidRequest("An image or a file is a text: its URL, or its data.", param="item")
    try:
        return content_of(part)
    except InvalidRequest:
        return None


def _kept(person_id: int, contents: Mapping[Key, Content]) -> dict[Key, int]:
    """The rows of these contents, each made if need be and locked, so that none of them is let go now."""
    found = _locked(person_id, contents) if contents else {}
    while missing := sorted(contents.keys() - found.keys()):
        made = [
            Attachment(person_id=person_id, sha256=sha256, mime=mime, size=len(data), data=data)
            for sha256, mime in missing
            for data in (contents[sha256, mime].data,)
        ]
        Attachment.objects.bulk_create(made, ignore_conflicts=True)
        found = _locked(person_id, contents)
    return found


def _locked(person_id: int, keys: Collection[Key]) -> dict[Key, int]:
    rows = Attachment.objects.select_for_update(no_key=True).filter(
        person=person_id, sha256__in={sha256 for sha256, _ in keys}
    )
    found = rows.order_by("pk").values_list("sha256", "mime", "pk")
    return {(sha256, mime): pk for sha256, mime, pk in found if (sha256, mime) in keys}


def _referring(part: Part, content: Content, attachment: int) -> Part:
    reference = {
        "attachment": attachment,
        "sha256": content.sha256,
        "head": content.head,
        "mime": content.mime,
        "size": len(content.data),
        "tokens": content.tokens,
        "width": content.width,
        "height": content.height,
    }
    return {**part, FIELDS[part["type"]]: reference}


def _reference(part: Part) -> Mapping[str, Any] | None:
    value = part.get(FIELDS.get(str(part.get("type")), ""))
    return value if isinstance(value, Mapping) else None


def _references(item: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    yield from filter(None, map(_reference, parts_of(item)))


def inlined(rows: Sequence[Row]) -> list[Row]:
    """These messages with their data in them, byte for byte as it came."""
    keys = {reference["attachment"] for row in rows for reference in _references(row.item)}
    if not keys:
        return list(rows)
    found = Attachment.objects.filter(pk__in=keys).values_list("pk", "sha256", "data")
    data = {(pk, sha256): bytes(data) for pk, sha256, data in found}
    return [_inlined(row, data) for row in rows]


def _inlined(row: Row, data: Mapping[tuple[int, str], bytes]) -> Row:
    if not any(_references(row.item)):
        return row
    assert row.item is not None  # it has references
    item = changed(row.item, lambda part: _whole(part, data))
    if isinstance(row, Line):
        return dataclasses.replace(row, item=item)
    whole = copy(row)
    whole.item = item
    return whole


def _whole(part: Part, data: Mapping[tuple[int, str], bytes]) -> Part:
    reference = _reference(part)
    if reference is None:
        return part
    found = data.get((reference["attachment"], reference["sha256"]))
    return GONE if found is None else {**part, FIELDS[part["type"]]: reference["head"] + encoded(found)}


def show_twin(attachment: int, twin: int) -> None:
    """Let the messages that show this attachment show another one, which has the same data."""

    def changed_place(part: Part) -> Part:
        reference = _reference(part)
        if reference is None or reference["attachment"] != attachment:
            return part
        return {**part, FIELDS[part["type"]]: {**reference, "attachment": twin}}

    uses = Attached.objects.filter(attachment=attachment)
    for row in Message.objects.filter(attached__in=uses, item__isnull=False):
        row.item = changed(row.item or {}, changed_place)
        row.save(update_fields=["item"])
    uses.update(attachment=twin)


def let_go(messages: QuerySet[Message]) -> None:
    """Take from these messages what they show, and delete what no other message shows."""
    uses = Attached.objects.filter(message__in=messages)
    shown = set(uses.values_list("attachment", flat=True))
    if not shown:
        return
    uses._raw_delete(uses.db)
    kept = Attachment.objects.filter(pk__in=shown)
    # Locked before it is asked who else shows it: whoever begins to show it now has locked it, too.
    list(kept.select_for_update().order_by("pk").values_list("pk"))
    unused = kept.filter(~Exists(Attached.objects.filter(attachment=OuterRef("pk"))))
    unused._raw_delete(unused.db)
