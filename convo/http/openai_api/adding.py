"""Items that a client adds to a conversation: new ones, and those that it names by an id it has seen."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from convo import database, history, turns
from convo.errors import InvalidRequest, ItemInConversation, NotFound
from convo.history import Draft
from convo.http.openai_api import items
from convo.models import Message, Session


@database.retried
@transaction.atomic
def add(session: Session, given: Sequence[Any], *, person: str | None) -> tuple[Session, list[Message]]:
    """Append these items, all or none, to a conversation that may not be stored yet; and their rows.

    An id that is known stands for the stored item, whatever is sent beside it.
    """
    found = [_drafted(item, f"items[{index}]") for index, item in enumerate(given)]
    session = turns.stored(session)[0] if session._state.adding else history.lock(session.pk)
    sent = {draft.item_id: draft for draft in found if draft.item_id}
    known = history.known(session.owner, sent, person=person or session.person.ref or None)
    if Message.objects.filter(session=session, item_id__in=sent).exists():
        raise ItemInConversation("Item already in conversation", param="items")
    drafts = [_linked(draft, known) for draft in _each_once(found)]
    rows = _recorded(session, drafts) if drafts else []
    by_id = {row.item_id: row for row in rows}
    new = iter(row for row in rows if row.item_id not in sent)
    return session, [by_id[draft.item_id] if draft.item_id else next(new) for draft in found]


def _drafted(item: Any, at: str) -> Draft:
    reference = items.reference_of(item)
    return items.draft_of(item, at) if reference is None else Draft(role="", item_id=reference)


def _each_once(found: Sequence[Draft]) -> list[Draft]:
    """What is named twice in one request is there once."""
    seen: set[str] = set()
    kept = []
    for draft in found:
        if draft.item_id not in seen:
            kept.append(draft)
        if draft.item_id:
            seen.add(draft.item_id)
    return kept


def _linked(draft: Draft, known: dict[str, Message]) -> Draft:
    if row := known.get(draft.item_id):
        return history.draft_of_row(row)
    if not draft.role:
        raise NotFound(f"Item with id '{draft.item_id}' not found.", param="items")
    return draft


def _recorded(session: Session, drafts: Sequence[Draft]) -> list[Message]:
    try:
        return turns.record(session, drafts)
    except InvalidRequest as error:
        # Told in the words of the core, which knows no items.
        error.param = (error.param or "items").replace("messages[", "items[").replace(".item.", ".")
        raise
