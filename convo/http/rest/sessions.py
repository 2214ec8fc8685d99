"""The REST API: sessions, and what one does with them."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from convo import history, turns
from convo.errors import InvalidRequest
from convo.history import Upload
from convo.http.auth import named_person, whose
from convo.http.once import once
from convo.http.rest import fields, schema
from convo.http.rest.asking import answer
from convo.http.rest.paging import link, page_by
from convo.http.rest.schema import answers
from convo.http.rest.viewset import ConvoViewSet
from convo.http.show import each_json, session_json
from convo.models import Session


def new_session(request: Request, given: dict[str, Any]) -> Session:
    """A session for this caller, not stored yet."""
    kept = {name: given[name] for name in ("title", "metadata", "agent", "ref", "storage") if name in given}
    return turns.new_session(request.user, whose(request, given.get("user")), **kept)


def stored_so(given: dict[str, Any]) -> Callable[[Session], None]:
    """The check that refuses a session which is not stored as this request wants it."""

    def check(session: Session) -> None:
        if given.get("storage", session.storage) != session.storage:
            raise InvalidRequest(
                f"This session exists, and its storage is {session.storage}.", param="storage"
            )

    return check


def ask(view: ConvoViewSet, session: Session, given: dict[str, Any]) -> HttpResponseBase:
    """Answer a question in this session."""
    files = [Upload(file["name"], file["data"]) for file in given.get("files", ())]
    question = [history.with_files(given["message"], files)]
    options: dict[str, Any] = {"agent": given.get("agent", ""), "on_busy": given["on_busy"]}
    options["check"] = stored_so(given)
    return answer(view.request, lambda key: turns.begin(session, question, **options, key=key), given)


class QueryViewSet(ConvoViewSet):
    """Ask a question, in a session of yours or in a new one."""

    serializers = {"create": fields.NewQuery}

    @extend_schema(responses=answers(schema.ANSWER, writes=True, asks=True))
    def create(self, request: Request) -> HttpResponseBase:
        """Ask. Without `session` a new one is made; its id comes back for the next question."""
        given = self.body()
        if "session" in given:
            return ask(self, self.session(str(given["session"]), given.get("user")), given)
        return ask(self, new_session(request, given), given)


class SessionViewSet(ConvoViewSet):
    """Conversations: create, list, change and delete them; ask in them; read and clear their history."""

    queryset = Session.objects.none()
    serializers = {
        "create": fields.NewSession,
        "partial_update": fields.SessionChange,
        "query": fields.Query,
    }
    related = {"Messages": "message-list", "Turns": "turn-list"}
    parameters = {
        "list": ("agent", "state", "q", "active_after", "active_before", "cursor", "page_size"),
        "history": ("after", "before", "order", "page_size"),
        "context": ("query", "max_tokens", "agent", "form"),
    }

    @extend_schema(
        operation_id="sessions_list", parameters=schema.LIST_PARAMETERS, responses=answers(schema.SESSIONS)
    )
    def list(self, request: Request) -> Response:
        """Your sessions, the most recently active first."""
        cursor, size = self.asked.text("cursor"), self.asked.page_size()
        page = page_by(request, self._filtered(request), by="last_activity", cursor=cursor, size=size)
        results = [session_json(session) for session in page.rows]
        return Response({"results": results, "next": page.next, "previous": page.previous})

    @extend_schema(responses=answers(schema.SESSION, status=201, writes=True, finds=True))
    def create(self, request: Request) -> Response:
        """Make a session; the server makes its id."""
        given = self.body()

        def make() -> Response:
            session, made = turns.stored(new_session(request, given))
            stored_so(given)(session)
            return Response(session_json(session), status=201 if made else 200)

        return once(request, make)

    @extend_schema(responses=answers(schema.SESSION))
    def retrieve(self, request: Request, pk: str) -> Response:
        """One session."""
        return Response(session_json(self.session(pk)))

    @extend_schema(responses=answers(schema.SESSION, writes=True))
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change title, metadata, agent or state; what is left out stays."""
        session, given = self.session(pk), self.body(partial=True)
        turns.check_title(session, given.get("title", ""))

        def change() -> Response:
            Session.objects.filter(pk=session.pk).change(**given)
            return Response(session_json(self.session(pk)))

        return once(request, change)

    @extend_schema(responses=answers(None, status=204, writes=True))
    def destroy(self, request: Request, pk: str) -> Response:
        """Delete the session with everything in it. A reply that is being written stops."""
        return once(request, lambda: _done(history.remove, self.session(pk)))

    @extend_schema(responses=answers(schema.ANSWER, writes=True, asks=True))
    @action(detail=True, methods=["post"])
    def query(self, request: Request, pk: str) -> HttpResponseBase:
        """Ask in this session."""
        given = self.body()
        return ask(self, self.session(pk, given.get("user")), given)

    @extend_schema(parameters=schema.HISTORY_PARAMETERS, responses=answers(schema.HISTORY))
    @action(detail=True, methods=["get"])
    def history(self, request: Request, pk: str) -> Response:
        """The messages by position, oldest first unless `order=desc`."""
        asked, session = self.asked, self.session(pk)
        newest_first = asked.choice("order", "asc", "desc") == "desc"
        asked.either("after", "before")
        page = history.page(
            session,
            after=asked.whole("after"),
            before=asked.whole("before"),
            newest_first=newest_first,
            size=asked.page_size(),
        )
        return Response(_history_json(request, page, newest_first=newest_first))

    @extend_schema(responses=answers(None, status=204, writes=True))
    @history.mapping.delete
    def clear(self, request: Request, pk: str) -> Response:
        """Delete all messages and keep the session. The same answer when there are none."""
        return once(request, lambda: _done(history.clear, self.session(pk)))

    @extend_schema(parameters=schema.CONTEXT_PARAMETERS, responses=schema.CONTEXT_ANSWERS)
    @action(detail=True, methods=["get"])
    def context(self, request: Request, pk: str) -> Response:
        """The prompt that `query` would get, and why each part is in it. No model is asked."""
        asked = self.asked
        agent, most = asked.text("agent"), asked.whole("max_tokens", least=1, most=10_000_000)
        session, query = self.session(pk), asked.text("query")
        form = asked.choice("form", "messages", *turns.FORMS)
        if form == "messages":
            prompt = turns.preview(session, query, agent=agent, max_tokens=most)
            return Response({"messages": prompt.messages, "manifest": prompt.manifest})
        text, prompt = turns.preview_text(session, query, form, agent=agent, max_tokens=most)
        return Response({"text": text, "manifest": prompt.manifest})

    def _filtered(self, request: Request) -> QuerySet[Session]:
        asked = self.asked
        found = Session.objects.of(request.user, named_person(request))
        if agent := asked.text("agent"):
            found = found.filter(agent=agent)
        if state := asked.choice("state", "", *fields.STATES):
            found = found.filter(state=state)
        if text := asked.text("q"):
            found = found.filter(title__icontains=text)
        if moment := asked.moment("active_after"):
            found = found.filter(last_activity__gt=moment)
        if moment := asked.moment("active_before"):
            found = found.filter(last_activity__lt=moment)
        return found.select_related("person")


def _done(change: Callable[[UUID], None], session: Session) -> Response:
    change(session.pk)
    return Response(status=204)


def _history_json(request: Request, page: history.Page, *, newest_first: bool) -> dict[str, Any]:
    rows = page.messages
    on, back = (page.older, page.newer) if newest_first else (page.newer, page.older)
    forward, backward = ("before", "after") if newest_first else ("after", "before")
    return {
        "results": each_json(rows),
        "next": link(request, **{forward: rows[-1].position, backward: None}) if on else None,
        "previous": link(request, **{backward: rows[0].position, forward: None}) if back else None,
    }
