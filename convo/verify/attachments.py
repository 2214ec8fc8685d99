"""Compare the attachments in messages with the rows that link them."""

from collections.abc import Iterator
from dataclasses import dataclass

from convo.history.files import files_of
from convo.models import Attachment, AttachmentUse, Message, Session

# A position, and the primary key of an attachment of the message there.
AttachmentPosition = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SessionAttachments:
    """The attachments in a session's items, those that its rows link, and the wrong ones among them."""

    in_items: set[AttachmentPosition]
    in_links: set[AttachmentPosition]
    # The linked attachments that belong to another person.
    foreign: set[AttachmentPosition]
    # The person's attachments that no message links.
    orphans: list[int]


def read(session: Session) -> SessionAttachments:
    link_rows = AttachmentUse.objects.filter(message__session=session)
    links = list(link_rows.values_list("message__position", "attachment", "attachment__person"))
    return SessionAttachments(
        in_items=set(_item_attachments(session)),
        in_links={(position, attachment) for position, attachment, _ in links},
        foreign={
            (position, attachment) for position, attachment, person in links if person != session.person_id
        },
        orphans=list(
            Attachment.objects.filter(person=session.person_id, uses=None).values_list("pk", flat=True)
        ),
    )


def _item_attachments(session: Session) -> Iterator[AttachmentPosition]:
    rows = Message.objects.filter(session=session, item__isnull=False).only("position", "item")
    for row in rows.iterator():
        for file in files_of(row.item):
            if file.attachment_id is not None:
                yield row.position, file.attachment_id


def find_problems(attachments: SessionAttachments) -> Iterator[tuple[str, str]]:
    for position, attachment in sorted(attachments.in_items - attachments.in_links):
        yield f"position {position}", f"its item shows attachment {attachment}, but no row links them"
    for position, attachment in sorted(attachments.in_links - attachments.in_items):
        yield (f"position {position}", f"a row links attachment {attachment}, but its item does not show it")
    for position, attachment in sorted(attachments.foreign):
        yield f"position {position}", f"shows attachment {attachment}, which is another person's"
    for attachment in attachments.orphans:
        yield "attachments", f"attachment {attachment} is shown by no message"
