"""Store images and files apart from the messages that show them, each content once per person.

A new message carries its data inline; a stored message refers to an attachment instead. When messages leave,
to a model or to a caller, the data is put back byte for byte.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from convo.errors import InvalidRequest
from convo.history.files.content import (
    TEXT_TYPE,
    FileContent,
    ItemFields,
    PartFields,
    clean_name,
    content_of,
    content_or_none,
    data_field,
    encode_base64,
    map_parts,
    parts_of,
)
from convo.history.files.images import image_of
from convo.models import Attachment, AttachmentUse, Message

MAX_FILES = 10
# This part replaces a deleted file. Only a reader that loaded the message before its deletion can see it.
DELETED_FILE_PART = {"type": "input_text", "text": "[a file that was deleted]"}

ContentKey = tuple[str, str]


@dataclass(frozen=True)
class Upload:
    """A file as a caller hands it over. Its type is read from the bytes, not from the name."""

    name: str
    data: bytes


def upload_parts(uploads: Sequence[Upload]) -> list[dict[str, Any]]:
    """Return the parts of a message that show these images and text files.

    Raise InvalidRequest for a file that is neither; the error names it as an element of `files`.
    """
    if len(uploads) > MAX_FILES:
        raise InvalidRequest(f"A message takes at most {MAX_FILES} files.", param="files")
    return [_part_of_upload(upload, f"files[{index}]") for index, upload in enumerate(uploads)]


def _part_of_upload(upload: Upload, param: str) -> dict[str, Any]:
    name, image = clean_name(upload.name), image_of(upload.data)
    label = repr(name) if name else "This file"
    url = f"data:{image.mime if image else TEXT_TYPE};base64,{encode_base64(upload.data)}"
    fields = {"image_url": url, "detail": "auto"} if image else {"file_data": url}
    part = {"type": "input_image" if image else "input_file", "filename": name, **fields}
    try:
        content = content_of(part)
    except InvalidRequest as error:
        raise InvalidRequest(f"{label}: {error.message}", param=param) from error
    if not upload.data:
        raise InvalidRequest(f"{label} is empty.", param=param)
    if image is None and (content is None or content.mime != TEXT_TYPE):
        raise InvalidRequest(
            f"{label} is neither an image (PNG, JPEG, GIF or WebP) nor UTF-8 text.", param=param
        )
    return part


def refuse_references(items: Sequence[ItemFields | None]) -> None:
    """Refuse new items that refer to attachments: only `store` writes references.

    Otherwise a client could name somebody else's attachment.
    """
    if any(any(_references(item)) for item in items):
        raise InvalidRequest("An image or a file must be a string: its URL or its data.", param="item")


def store(person_id: int, rows: Sequence[Message]) -> None:
    """Store the images and files of these new messages of one person; the items refer to them from now on."""
    parts = [part for row in rows for part in parts_of(row.item)]
    # Data that turns out not to be an image or a file stays inline.
    contents = {id(part): content for part in parts if (content := content_or_none(part))}
    attachment_ids = _get_or_create(person_id, {content.key: content for content in contents.values()})

    def refer_to_attachment(part: PartFields) -> PartFields:
        content = contents.get(id(part))
        return _with_reference(part, content, attachment_ids[content.key]) if content else part

    for row in rows:
        row.item = map_parts(row.item, refer_to_attachment) if row.item else row.item


def link(rows: Sequence[Message]) -> None:
    """Record which attachments these messages show, once they are inserted."""
    AttachmentUse.objects.bulk_create(
        AttachmentUse(message=row, attachment_id=attachment_id)
        for row in rows
        for attachment_id in dict.fromkeys(reference["attachment"] for reference in _references(row.item))
    )


def _get_or_create(person_id: int, contents: Mapping[ContentKey, FileContent]) -> dict[ContentKey, int]:
    """Get or create the attachments of these contents, locked so that `detach` can't delete them now."""
    attachment_ids = _lock_existing(person_id, contents) if contents else {}
    while missing := sorted(contents.keys() - attachment_ids.keys()):
        new_attachments = [_new_attachment(person_id, contents[key]) for key in missing]
        Attachment.objects.bulk_create(new_attachments, ignore_conflicts=True)
        attachment_ids = _lock_existing(person_id, contents)
    return attachment_ids


def _new_attachment(person_id: int, content: FileContent) -> Attachment:
    data = content.data
    return Attachment(
        person_id=person_id, sha256=content.sha256, mime=content.mime, size=len(data), data=data
    )


def _lock_existing(person_id: int, keys: Collection[ContentKey]) -> dict[ContentKey, int]:
    attachments = Attachment.objects.select_for_update(no_key=True).filter(
        person=person_id, sha256__in={sha256 for sha256, _ in keys}
    )
    values = attachments.order_by("pk").values_list("sha256", "mime", "pk")
    return {(sha256, mime): pk for sha256, mime, pk in values if (sha256, mime) in keys}


def _with_reference(part: PartFields, content: FileContent, attachment_id: int) -> PartFields:
    reference = {
        "attachment": attachment_id,
        "sha256": content.sha256,
        "head": content.data_url_prefix,
        "mime": content.mime,
        "size": len(content.data),
        "tokens": content.tokens,
        "width": content.width,
        "height": content.height,
    }
    field, _ = data_field(part)
    return {**part, field: reference}


def _references(item: ItemFields | None) -> Iterator[Mapping[str, Any]]:
    values = (value for _, value in map(data_field, parts_of(item)))
    yield from (value for value in values if isinstance(value, Mapping))


def inline_items(items: Sequence[ItemFields | None]) -> list[ItemFields | None]:
    """Return these items with their data inline, byte for byte as it came."""
    attachment_ids = {reference["attachment"] for item in items for reference in _references(item)}
    if not attachment_ids:
        return list(items)
    contents = Attachment.objects.filter(pk__in=attachment_ids).values_list("pk", "sha256", "data")
    data_by_key = {(pk, sha256): bytes(data) for pk, sha256, data in contents}
    return [_inline_item(item, data_by_key) for item in items]


def _inline_item(item: ItemFields | None, data_by_key: Mapping[tuple[int, str], bytes]) -> ItemFields | None:
    if item is None or not any(_references(item)):
        return item
    return map_parts(item, lambda part: _inline_part(part, data_by_key))


def _inline_part(part: PartFields, data_by_key: Mapping[tuple[int, str], bytes]) -> PartFields:
    field, reference = data_field(part)
    if not isinstance(reference, Mapping):
        return part
    data = data_by_key.get((reference["attachment"], reference["sha256"]))
    if data is None:
        return DELETED_FILE_PART
    return {**part, field: reference["head"] + encode_base64(data)}


def replace_attachment(attachment_id: int, twin_id: int) -> None:
    """Make the messages that show an attachment show its twin, an attachment with the same data."""

    def refer_to_twin(part: PartFields) -> PartFields:
        field, reference = data_field(part)
        if not isinstance(reference, Mapping) or reference["attachment"] != attachment_id:
            return part
        return {**part, field: {**reference, "attachment": twin_id}}

    uses = AttachmentUse.objects.filter(attachment=attachment_id)
    for row in Message.objects.filter(attachment_uses__in=uses, item__isnull=False):
        row.item = map_parts(row.item or {}, refer_to_twin)
        row.save(update_fields=["item"])
    uses.update(attachment=twin_id)


def detach(messages: QuerySet[Message]) -> None:
    """Detach the attachments of these messages, and delete those that no other message shows."""
    uses = AttachmentUse.objects.filter(message__in=messages)
    attachment_ids = set(uses.values_list("attachment", flat=True))
    if not attachment_ids:
        return
    uses._raw_delete(uses.db)
    attachments = Attachment.objects.filter(pk__in=attachment_ids)
    # Lock first, then look for other uses: a writer that is about to show one of these locks it as well.
    list(attachments.select_for_update().order_by("pk").values_list("pk"))
    orphans = attachments.filter(~Exists(AttachmentUse.objects.filter(attachment=OuterRef("pk"))))
    orphans._raw_delete(orphans.db)
