"""Items by their ids, wherever in an account they are: clients name what they have seen before."""

from collections.abc import Collection
from typing import Any

from convo.errors import NotFound
from convo.history.attachments import inlined
from convo.history.lines import Draft
from convo.models import NOBODY, Message, Session


def known(owner: Any, item_ids: Collection[str], *, person: str | None = None) -> dict[str, Message]:
    """The owner's stored items of these ids, each as it was stored last.

    Where a person is named, only theirs and nobody's: what another said does not become theirs.
    """
    rows = Message.objects.filter(session__owner=owner, item_id__in=item_ids, erased_at=None)
    # What is said in a temporary chat enters no other conversation.
    rows = rows.exclude(session__storage=Session.Storage.EPHEMERAL)
    if person is not None:
        rows = rows.filter(session__person__ref__in={person, NOBODY})
    return {row.item_id: row for row in rows.order_by("id")}


def item_in(session: Session, item_id: str) -> Message:
    """The item of this id that the session shows."""
    shown = Message.objects.filter(session=session, item_id=item_id, active=True, erased_at=None)
    found = shown.select_related("turn").first()
    if found is None:
        raise NotFound(f"Item with id '{item_id}' not found.")
    return found


def draft_of_row(row: Message) -> Draft:
    """The same message once more, under the same id: for another transcript.

    There it was written elsewhere, by no agent; and what was forgotten stays out of every memory.
    """
    return Draft(
        role=row.role,
        content=row.content,
        type=row.type,
        name=row.name,
        # With its data: the other transcript may be another person's, and keeps its own.
        item=inlined([row])[0].item,
        item_id=row.item_id,
        recallable=row.recallable,
    )
