"""What must hold between messages and the images and files that they show."""

from collections.abc import Iterator
from dataclasses import dataclass

from convo.history import files_of
from convo.models import Attached, Attachment, Message, Session

# A position, and the attachment that is shown there.
Place = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the items of a session show, what they are said to show, and what is not right about that."""

    told: set[Place]
    said: set[Place]
    # Attachments of other people that are said to be shown here.
    strange: set[Place]
    # The person's attachments that no message shows.
    unused: list[int]


def read(session: Session) -> Shown:
    uses = Attached.objects.filter(message__session=session)
    said = list(uses.values_list("message__position", "attachment", "attachment__person"))
    return Shown(
        told=set(_told(session)),
        said={(position, attachment) for position, attachment, _ in said},
        strange={
            (position, attachment) for position, attachment, person in said if person != session.person_id
        },
        unused=list(
            Attachment.objects.filter(person=session.person_id, shown_in=None).values_list("pk", flat=True)
        ),
    )


def _told(session: Session) -> Iterator[Place]:
    rows = Message.objects.filter(session=session, item__isnull=False).only("position", "item")
    for row in rows.iterator():
        for file in files_of(row):
            if file.attachment is not None:
                yield row.position, file.attachment


def broken(shown: Shown) -> Iterator[tuple[str, str]]:
    """Where something is wrong, and what."""
    for position, attachment in sorted(shown.told - shown.said):
        yield f"position {position}", f"its item shows attachment {attachment}, which is not said of it"
    for position, attachment in sorted(shown.said - shown.told):
        yield (
            f"position {position}",
            f"is said to show attachment {attachment}, but its item does not",
        )
    for position, attachment in sorted(shown.strange):
        yield f"position {position}", f"shows attachment {attachment}, which is another person's"
    for attachment in shown.unused:
        yield "attachments", f"attachment {attachment} is shown by no message"
