"""/v1/conversations: sessions and their messages, in the form of OpenAI's Conversations API."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any

from django.db import transaction
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from convo import database, history, turns
from convo.errors import ItemInConversation, NotFound
from convo.history import MessagePage, NewMessage
from convo.http.pagination import first_rows, rows_after
from convo.models import NOBODY, Message, Session, Turn
from convo.openai_api import ids, items, schema
from convo.openai_api.pagination import PageQuery, page_json, read_page_query, unknown_cursor
from convo.openai_api.validation import Array, JsonObject, Metadata, PersonFields, RequestModel, validate
from convo.openai_api.view import V1View, person_of, require_stored_session

MAX_ITEMS = 20


class NewConversation(PersonFields):
    """A conversation to create."""

    items: Annotated[Array[JsonObject], Field(max_length=MAX_ITEMS)] | None = None


class NewItems(PersonFields):
    """Items to append to a conversation."""

    items: Annotated[Array[JsonObject], Field(min_length=1, max_length=MAX_ITEMS)]


class MetadataChange(RequestModel):
    """New metadata for a conversation."""

    metadata: Metadata | None = None


def conversation_json(session: Session) -> dict[str, Any]:
    return {
        "id": ids.conversation_id(session),
        "object": "conversation",
        "created_at": int(session.created_at.timestamp()),
        "metadata": session.metadata,
    }


class ConversationsView(V1View):
    """All conversations of the caller."""

    @schema.operation("listConversations", schema.CONVERSATIONS, parameters=schema.PAGE_PARAMETERS)
    def get(self, request: Request) -> Response:
        """List your conversations, newest first. OpenAI's own API has no such call."""
        page_query = read_page_query(self.params)
        rows, has_more = self._conversations_page(page_query)
        return Response(page_json([conversation_json(row) for row in rows], has_more=has_more))

    @schema.operation("createConversation", schema.CONVERSATION, request=NewConversation, writes=True)
    def post(self, request: Request) -> Response:
        """Create a conversation, with up to 20 items."""
        body = validate(NewConversation, self.body())
        person = person_of(request, self.body())

        def create() -> Response:
            session = require_stored_session(
                turns.new_session(request.user, person or NOBODY, metadata=body.metadata or {})
            )
            saved_session, _ = add_items(session, body.items or [], people=self.person_refs(person))
            return Response(conversation_json(saved_session))

        return self.idempotent(create, person=person)

    def _conversations_page(self, page_query: PageQuery) -> tuple[list[Session], bool]:
        rows, last = self.conversations(), None
        if page_query.after:
            key = ids.uuid_of(ids.CONVERSATION, page_query.after)
            cursor = rows.filter(pk=key).first() if key else None
            if cursor is None:
                raise unknown_cursor(page_query.after)
            last = cursor.created_at, cursor.pk
        rows = rows_after(rows, order_by="created_at", last=last, newest_first=page_query.newest_first)
        return first_rows(rows, page_query.limit)


class ConversationView(V1View):
    """One conversation."""

    @schema.operation("retrieveConversation", schema.CONVERSATION)
    def get(self, request: Request, id: str) -> Response:
        """Return the conversation without its items."""
        return Response(conversation_json(self.conversation(id)))

    @schema.operation("updateConversation", schema.CONVERSATION, request=MetadataChange, writes=True)
    def post(self, request: Request, id: str) -> Response:
        """Replace the conversation's metadata. Without `metadata` nothing changes; null clears it."""
        session, body = self.conversation(id), self.body()
        metadata = validate(MetadataChange, body).metadata or {}

        def change() -> Response:
            if "metadata" in body:
                session.metadata = metadata
                Session.objects.filter(pk=session.pk).change(metadata=session.metadata)
            return Response(conversation_json(session))

        return self.idempotent(change)

    @schema.operation("deleteConversation", schema.DELETED, writes=True)
    def delete(self, request: Request, id: str) -> Response:
        """Delete the conversation and everything in it. A reply that is being written stops."""

        def delete() -> Response:
            history.remove(self.conversation(id).pk)
            return Response({"id": id, "object": "conversation.deleted", "deleted": True})

        return self.idempotent(delete)


class ItemsView(V1View):
    """The items of a conversation."""

    @schema.operation(
        "listConversationItems", schema.ITEMS, parameters=[*schema.PAGE_PARAMETERS, schema.INCLUDE_PARAMETER]
    )
    def get(self, request: Request, id: str) -> Response:
        """List the items by position, newest first unless `order=asc`."""
        session, page_query = self.conversation(id), read_page_query(self.params)
        page = _items_page(session, page_query)
        entries = [_item_json(row) for row in history.with_inline_data(page.messages)]
        return Response(
            page_json(entries, has_more=page.has_older if page_query.newest_first else page.has_newer)
        )

    @schema.operation(
        "createConversationItems",
        schema.ITEMS,
        request=NewItems,
        parameters=[schema.INCLUDE_PARAMETER],
        writes=True,
    )
    def post(self, request: Request, id: str) -> Response:
        """Append 1 to 20 items, all or none, without asking a model."""
        raw_items = validate(NewItems, self.body()).items
        person = person_of(request, self.body())
        session = self.conversation(id, person)

        def append() -> Response:
            _, rows = add_items(session, raw_items, people=self.person_refs(person))
            return Response(page_json([items.item_json(row) for row in history.with_inline_data(rows)]))

        return self.idempotent(append, lambda response: _turn_of(session, response), person=person)


class ItemView(V1View):
    """One item of a conversation."""

    @schema.operation("retrieveConversationItem", schema.ITEM, parameters=[schema.INCLUDE_PARAMETER])
    def get(self, request: Request, id: str, item_id: str) -> Response:
        """Return the item with this id."""
        return Response(_item_json(history.get_item(self.conversation(id), _valid_item_id(item_id))))

    @schema.operation("deleteConversationItem", schema.CONVERSATION, writes=True)
    def delete(self, request: Request, id: str, item_id: str) -> Response:
        """Delete this item and, with a tool call, its output. Returns the conversation."""
        session = self.conversation(id)

        def delete() -> Response:
            history.delete_item(session.pk, _valid_item_id(item_id))
            return Response(conversation_json(session))

        return self.idempotent(delete)


def _items_page(session: Session, page_query: PageQuery) -> MessagePage:
    bounds: dict[str, int] = {}
    if page_query.after:
        try:
            cursor = history.get_item(session, _valid_item_id(page_query.after))
        except NotFound as error:
            raise unknown_cursor(page_query.after) from error
        bounds = {"before" if page_query.newest_first else "after": cursor.position}
    return history.page(session, **bounds, newest_first=page_query.newest_first, size=page_query.limit)


def _turn_of(session: Session, response: Response) -> Turn:
    return history.get_item(session, response.data["last_id"]).turn


def _item_json(row: Message) -> dict[str, Any]:
    """Render the item. An item of a reply that broke off has the status `incomplete`."""
    is_incomplete = row.agent and row.turn.status not in {Turn.Status.COMPLETE, Turn.Status.RUNNING}
    return items.item_json(row, status="incomplete" if is_incomplete else "completed")


def _valid_item_id(item_id: str) -> str:
    if not items.is_item_id(item_id):
        raise NotFound(f"Item with id '{item_id}' not found.")
    return item_id


@database.retry_conflicts
@transaction.atomic
def add_items(
    session: Session, raw_items: Sequence[object], *, people: Collection[str] | None
) -> tuple[Session, list[Message]]:
    """Append these items to a conversation, all or none; return the conversation and the stored messages.

    A conversation that is not in the database yet is saved first. The id of a stored item stands for that
    item, whatever else is sent with it. Stored items are looked up among those of `people`, the end users
    whom the request may read; None stands for all of them.
    """
    drafts = [items.read_item(item, f"items[{index}]") for index, item in enumerate(raw_items)]
    session = turns.store_session(session)[0] if session._state.adding else history.lock(session.pk)
    drafts_by_id = {draft.item_id: draft for draft in drafts if draft.item_id}
    if people is None and session.person.ref != NOBODY:
        # The request names no end user, but the conversation has one: keep other end users' items out of it.
        people = [session.person.ref, NOBODY]
    stored_items = history.items_by_id(session.owner, drafts_by_id, person_refs=people)
    if Message.objects.filter(session=session, item_id__in=drafts_by_id).exists():
        raise ItemInConversation("Item already in conversation", param="items")
    drafts_to_append = [
        items.resolve_reference(draft, stored_items, "items") for draft in _without_duplicates(drafts)
    ]
    # The core names the fields of messages, and the client sent items.
    call_id_path = "items[{index}].call_id"
    rows = turns.record(session, drafts_to_append, call_id_path=call_id_path) if drafts_to_append else []
    by_id = {row.item_id: row for row in rows}
    rows_with_new_ids = iter(row for row in rows if row.item_id not in drafts_by_id)
    return session, [by_id[draft.item_id] if draft.item_id else next(rows_with_new_ids) for draft in drafts]


def _without_duplicates(drafts: Sequence[NewMessage]) -> list[NewMessage]:
    unique_drafts: dict[str | int, NewMessage] = {}
    for index, draft in enumerate(drafts):
        unique_drafts.setdefault(draft.item_id or index, draft)
    return list(unique_drafts.values())
