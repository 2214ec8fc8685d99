"""The REST API: sessions, and questions asked in them."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from convo import history, turns
from convo.errors import InvalidRequest
from convo.history import NewMessage
from convo.history.files import Upload, upload_parts
from convo.http.auth import person_for_session, requested_person
from convo.http.idempotency import process_once
from convo.http.representations import messages_json, session_json
from convo.models import Session
from convo.rest import schema, serializers
from convo.rest.reply import answer_question
from convo.rest.schema import responses
from convo.rest.viewset import ConvoViewSet


def new_session(request: Request, data: dict[str, Any]) -> Session:
    """Build an unsaved session for this caller."""
    options = {name: data[name] for name in ("title", "metadata", "agent", "ref", "storage") if name in data}
    return turns.new_session(request.user, person_for_session(request, data.get("user")), **options)


def storage_check(data: dict[str, Any]) -> Callable[[Session], None]:
    """Return a check that rejects a session with another storage than the request asks for."""

    def check(session: Session) -> None:
        if data.get("storage", session.storage) != session.storage:
            raise InvalidRequest(
                f"This session exists, and its storage is {session.storage}.", param="storage"
            )

    return check


def ask(view: ConvoViewSet, session: Session, data: dict[str, Any]) -> HttpResponseBase:
    """Answer a question in this session."""
    files = [Upload(file["name"], file["data"]) for file in data.get("files", ())]
    question = [NewMessage.from_user(data["message"], upload_parts(files))]
    options: dict[str, Any] = {"agent": data.get("agent", ""), "on_busy": data["on_busy"]}
    options["guard"] = storage_check(data)
    return answer_question(view.request, lambda key: turns.begin(session, question, **options, key=key), data)


class QueryViewSet(ConvoViewSet):
    """Ask a question, in a session of yours or in a new one."""

    serializer_classes = {"create": serializers.NewQuerySerializer}

    @extend_schema(responses=responses(schema.REPLY, writes=True, asks=True))
    def create(self, request: Request) -> HttpResponseBase:
        """Ask a question. Without `session` a new one is created; its id is in the response."""
        data = self.validated_body()
        if "session" in data:
            return ask(self, self.get_session(str(data["session"]), data.get("user")), data)
        return ask(self, new_session(request, data), data)


class SessionViewSet(ConvoViewSet):
    """Conversations: create, list, change and delete them, ask in them, read and clear their history."""

    queryset = Session.objects.none()
    serializer_classes = {
        "create": serializers.NewSessionSerializer,
        "partial_update": serializers.SessionChangeSerializer,
        "query": serializers.QuerySerializer,
    }
    related_lists = {"Messages": "message-list", "Turns": "turn-list"}
    allowed_params = {
        "list": ("agent", "state", "q", "active_after", "active_before", "cursor", "page_size"),
        "history": ("after", "before", "order", "page_size"),
        "context": ("query", "max_tokens", "agent", "form"),
    }

    @extend_schema(
        operation_id="sessions_list", parameters=schema.LIST_PARAMETERS, responses=responses(schema.SESSIONS)
    )
    def list(self, request: Request) -> Response:
        """Your sessions, the most recently active first."""
        return self.list_response(
            self._filtered_queryset(request), order_by="last_activity", render=session_json
        )

    @extend_schema(responses=responses(schema.SESSION, status=201, writes=True, finds=True))
    def create(self, request: Request) -> Response:
        """Create a session; the server chooses its id."""
        data = self.validated_body()

        def make() -> Response:
            session, is_new = turns.store_session(new_session(request, data))
            storage_check(data)(session)
            return Response(session_json(session), status=201 if is_new else 200)

        return process_once(request, make)

    @extend_schema(responses=responses(schema.SESSION))
    def retrieve(self, request: Request, pk: str) -> Response:
        """One session."""
        return Response(session_json(self.get_session(pk)))

    @extend_schema(responses=responses(schema.SESSION, writes=True))
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change title, metadata, agent or state; fields that are left out stay as they are."""
        session, data = self.get_session(pk), self.validated_body(partial=True)
        turns.check_title(session, data.get("title", ""))

        def change() -> Response:
            Session.objects.filter(pk=session.pk).change(**data)
            return Response(session_json(self.get_session(pk)))

        return process_once(request, change)

    @extend_schema(responses=responses(None, status=204, writes=True))
    def destroy(self, request: Request, pk: str) -> Response:
        """Delete the session with everything in it. A reply that is being written stops."""
        return self.delete_once(lambda: history.remove(self.get_session(pk).pk))

    @extend_schema(responses=responses(schema.REPLY, writes=True, asks=True))
    @action(detail=True, methods=["post"])
    def query(self, request: Request, pk: str) -> HttpResponseBase:
        """Ask a question in this session."""
        data = self.validated_body()
        return ask(self, self.get_session(pk, data.get("user")), data)

    @extend_schema(parameters=schema.HISTORY_PARAMETERS, responses=responses(schema.HISTORY))
    @action(detail=True, methods=["get"])
    def history(self, request: Request, pk: str) -> Response:
        """The messages by position, oldest first unless `order=desc`."""
        params, session = self.params, self.get_session(pk)
        newest_first = params.choice("order", "asc", "desc") == "desc"
        params.reject_both("after", "before")
        page = history.page(
            session,
            after=params.integer("after"),
            before=params.integer("before"),
            newest_first=newest_first,
            size=params.page_size(),
        )
        positions = [message.position for message in page.messages]
        newer = self.link(after=max(positions), before=None) if page.has_newer else None
        older = self.link(before=min(positions), after=None) if page.has_older else None
        next, previous = (older, newer) if newest_first else (newer, older)
        results = messages_json(page.messages)
        return Response({"results": results, "next": next, "previous": previous})

    @extend_schema(responses=responses(None, status=204, writes=True))
    @history.mapping.delete
    def clear(self, request: Request, pk: str) -> Response:
        """Delete all messages and keep the session. The response is the same if there are none."""
        return self.delete_once(lambda: history.clear(self.get_session(pk).pk))

    @extend_schema(parameters=schema.CONTEXT_PARAMETERS, responses=schema.CONTEXT_RESPONSES)
    @action(detail=True, methods=["get"])
    def context(self, request: Request, pk: str) -> Response:
        """The prompt that `query` would get, and the reason for each part of it. No model is asked."""
        params = self.params
        agent, max_tokens = (
            params.text("agent"),
            params.integer("max_tokens", min_value=1, max_value=10_000_000),
        )
        session, query = self.get_session(pk), params.text("query")
        form = params.choice("form", "messages", *turns.FORMS)
        if form == "messages":
            prompt = turns.preview(session, query, agent=agent, max_tokens=max_tokens)
            return Response({"messages": prompt.messages, "manifest": prompt.manifest})
        text, prompt = turns.preview_text(session, query, form, agent=agent, max_tokens=max_tokens)
        return Response({"text": text, "manifest": prompt.manifest})

    def _filtered_queryset(self, request: Request) -> QuerySet[Session]:
        params = self.params
        sessions = Session.objects.owned_by(request.user, requested_person(request))
        if agent := params.text("agent"):
            sessions = sessions.filter(agent=agent)
        if state := params.choice("state", "", *serializers.STATES):
            sessions = sessions.filter(state=state)
        if words := params.text("q"):
            sessions = sessions.filter(title__icontains=words)
        if active_after := params.date_time("active_after"):
            sessions = sessions.filter(last_activity__gt=active_after)
        if active_before := params.date_time("active_before"):
            sessions = sessions.filter(last_activity__lt=active_before)
        return sessions.select_related("person")
