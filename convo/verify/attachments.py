"""Compare the attachments in messages with the rows that link them."""

from collections.abc import Iterator

from convo.history.files import files_of
from convo.models import Attachment, AttachmentUse, Message, Session


def find_problems(session: Session) -> Iterator[tuple[str, str]]:
    """Read the attachments of a session, and yield the place and the nature of each problem."""
    link_rows = AttachmentUse.objects.filter(message__session=session)
    links = list(link_rows.values_list("message__position", "attachment", "attachment__person"))
    in_items = set(_item_attachments(session))
    in_links = {(position, attachment) for position, attachment, _ in links}
    for position, attachment in sorted(in_items - in_links):
        yield f"position {position}", f"its item shows attachment {attachment}, but no row links them"
    for position, attachment in sorted(in_links - in_items):
        yield f"position {position}", f"a row links attachment {attachment}, but its item does not show it"
    for position, attachment, person in sorted(links):
        if person != session.person_id:
            yield f"position {position}", f"shows attachment {attachment}, which is another person's"
    orphans = Attachment.objects.filter(person=session.person_id, uses=None)
    for attachment in orphans.values_list("pk", flat=True):
        yield "attachments", f"attachment {attachment} is shown by no message"


def _item_attachments(session: Session) -> Iterator[tuple[int, int]]:
    """Yield the position of each item with an attachment, and the attachment's primary key."""
    rows = Message.objects.filter(session=session, item__isnull=False).only("position", "item")
    for row in rows.iterator():
        for file in files_of(row.item):
            if file.attachment_id is not None:
                yield row.position, file.attachment_id
