"""/v1/conversations: sessions and their messages, as OpenAI's clients speak of them."""

from typing import Any

from django.db.models import Q
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import history, turns
from convo.errors import NotFound
from convo.history import Page
from convo.http.openai_api import ids, items, schema
from convo.http.openai_api.adding import add
from convo.http.openai_api.paging import Asked, asked, page_json, unknown
from convo.http.openai_api.view import V1View, kept, person_of
from convo.models import NOBODY, Message, Session, Turn

MOST_ITEMS = 20


def conversation_json(session: Session) -> dict[str, Any]:
    return {
        "id": ids.conversation_id(session),
        "object": "conversation",
        "created_at": int(session.created_at.timestamp()),
        "metadata": session.metadata,
    }


class ConversationsView(V1View):
    """All of the caller's conversations."""

    @extend_schema(
        operation_id="listConversations",
        parameters=schema.PAGE,
        responses=schema.answers(schema.CONVERSATIONS),
    )
    def get(self, request: Request) -> Response:
        """Your conversations, the newest first. OpenAI's own API has no such call."""
        wanted = asked(request)
        rows, has_more = self._page(wanted)
        return Response(page_json([conversation_json(row) for row in rows], has_more=has_more))

    @extend_schema(
        operation_id="createConversation",
        request=schema.NEW_CONVERSATION,
        responses=schema.answers(schema.CONVERSATION, writes=True),
    )
    def post(self, request: Request) -> Response:
        """Begin a conversation, with up to 20 items."""
        body = self.body()
        metadata, given = body.metadata() or {}, body.entries("items", most=MOST_ITEMS) or []
        person = person_of(request, body)

        def create() -> Response:
            session = kept(turns.new_session(request.user, person or NOBODY, metadata=metadata))
            made, _ = add(session, given, person=person)
            return Response(conversation_json(made))

        return self.once(create, person=person)

    def _page(self, wanted: Asked) -> tuple[list[Session], bool]:
        rows, order = (
            self.conversations(),
            ("-created_at", "id") if wanted.newest_first else ("created_at", "-id"),
        )
        if wanted.after:
            key = ids.uuid_of(ids.CONVERSATION, wanted.after)
            last = rows.filter(pk=key).first() if key else None
            if last is None:
                raise unknown(wanted.after)
            side, other = ("lt", "gt") if wanted.newest_first else ("gt", "lt")
            rows = rows.filter(
                Q(**{f"created_at__{side}": last.created_at})
                | Q(**{"created_at": last.created_at, f"id__{other}": last.pk})
            )
        found = list(rows.order_by(*order)[: wanted.limit + 1])
        return found[: wanted.limit], len(found) > wanted.limit


class ConversationView(V1View):
    """One conversation."""

    @extend_schema(operation_id="retrieveConversation", responses=schema.answers(schema.CONVERSATION))
    def get(self, request: Request, id: str) -> Response:
        """The conversation itself, without its items."""
        return Response(conversation_json(self.conversation(id)))

    @extend_schema(
        operation_id="updateConversation",
        request=schema.METADATA_CHANGE,
        responses=schema.answers(schema.CONVERSATION, writes=True),
    )
    def post(self, request: Request, id: str) -> Response:
        """Replace its metadata; left out, they stay, and null empties them."""
        session, body = self.conversation(id), self.body()

        def change() -> Response:
            if "metadata" in body.given:
                session.metadata = body.metadata() or {}
                Session.objects.filter(pk=session.pk).change(metadata=session.metadata)
            return Response(conversation_json(session))

        return self.once(change)

    @extend_schema(
        operation_id="deleteConversation", responses=schema.answers(schema.DELETED_CONVERSATION, writes=True)
    )
    def delete(self, request: Request, id: str) -> Response:
        """Delete it with everything in it. A reply that is being written stops."""

        def delete() -> Response:
            history.remove(self.conversation(id).pk)
            return Response({"id": id, "object": "conversation.deleted", "deleted": True})

        return self.once(delete)


class ItemsView(V1View):
    """What stands in a conversation."""

    @extend_schema(
        operation_id="listConversationItems",
        parameters=[*schema.PAGE, schema.INCLUDE],
        responses=schema.answers(schema.ITEMS),
    )
    def get(self, request: Request, id: str) -> Response:
        """The items by position, newest first unless `order=asc`."""
        session, wanted = self.conversation(id), asked(request)
        page = _page(session, wanted)
        shown = [_shown(row) for row in history.inlined(page.messages)]
        return Response(page_json(shown, has_more=page.older if wanted.newest_first else page.newer))

    @extend_schema(
        operation_id="createConversationItems",
        request=schema.NEW_ITEMS,
        parameters=[schema.INCLUDE],
        responses=schema.answers(schema.ITEMS, writes=True),
    )
    def post(self, request: Request, id: str) -> Response:
        """Add 1 to 20 items at the end, all or none, without asking a model."""
        body = self.body()
        body.need("items", list)
        given = body.entries("items", least=1, most=MOST_ITEMS) or []
        person = person_of(request, body)
        session = self.conversation(id, person)

        def append() -> Response:
            _, rows = add(session, given, person=person)
            return Response(page_json([items.item_json(row) for row in history.inlined(rows)]))

        return self.once(append, lambda made: _turn_of(session, made), person=person)


class ItemView(V1View):
    """One item."""

    @extend_schema(
        operation_id="retrieveConversationItem",
        parameters=[schema.INCLUDE],
        responses=schema.answers(schema.ITEM),
    )
    def get(self, request: Request, id: str, item_id: str) -> Response:
        """The item of this id."""
        return Response(_shown(history.item_in(self.conversation(id), _checked(item_id))))

    @extend_schema(
        operation_id="deleteConversationItem", responses=schema.answers(schema.CONVERSATION, writes=True)
    )
    def delete(self, request: Request, id: str, item_id: str) -> Response:
        """Delete this item, and with a tool's call its output. The answer is the conversation."""
        session = self.conversation(id)

        def delete() -> Response:
            history.delete_item(session.pk, _checked(item_id))
            return Response(conversation_json(session))

        return self.once(delete)


def _page(session: Session, wanted: Asked) -> Page:
    place: dict[str, int] = {}
    if wanted.after:
        try:
            last = history.item_in(session, _checked(wanted.after))
        except NotFound as error:
            raise unknown(wanted.after) from error
        place = {"before" if wanted.newest_first else "after": last.position}
    return history.page(session, **place, newest_first=wanted.newest_first, size=wanted.limit)


def _turn_of(session: Session, made: Response) -> Turn:
    return history.item_in(session, made.data["last_id"]).turn


def _shown(row: Message) -> dict[str, Any]:
    """The item; what a reply that broke off had said is incomplete."""
    broken = row.agent and row.turn.status not in {Turn.Status.COMPLETE, Turn.Status.RUNNING}
    return items.item_json(row, status="incomplete" if broken else "completed")


def _checked(item_id: str) -> str:
    if not items.is_item_id(item_id):
        raise NotFound(f"Item with id '{item_id}' not found.")
    return item_id
