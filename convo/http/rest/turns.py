"""The REST API: the turns of a session, and its messages one by one."""

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from convo import context, history, turns
from convo.errors import InvalidRequest, NotFound
from convo.history import Draft
from convo.http import sse
from convo.http.auth import check_roles
from convo.http.once import REPLAYED, marked, once
from convo.http.rest import fields, schema
from convo.http.rest.asking import answer
from convo.http.rest.paging import page_by
from convo.http.rest.schema import answers
from convo.http.rest.viewset import ConvoViewSet
from convo.http.show import (
    each_json,
    feedback_json,
    message_json,
    messages_json,
    opinion_json,
    session_json,
    turn_json,
)
from convo.models import Session, Turn

# What a list of turns leaves out, for it may be long.
UNTOLD = ("manifest", "draft", "pieces", "input")
NOTHING_SAID = {"value": None, "note": "", "created_at": None}


@extend_schema(parameters=[schema.SESSION_ID])
class MessageViewSet(ConvoViewSet):
    """The messages of a session: append, look at, delete."""

    lookup_field, lookup_value_regex = "position", "[0-9]{1,15}"
    serializers = {"create": fields.NewMessages}

    @extend_schema(responses=answers(schema.APPENDED, status=201, writes=True))
    def create(self, request: Request, session: str) -> Response:
        """Append messages that were made elsewhere, without asking a model."""
        given = self.body()
        check_roles(request, [message["role"] for message in given["messages"]])
        found = self.session(session, given.get("user"))

        def append() -> Response:
            rows = turns.record(found, [fields.draft(message) for message in given["messages"]])
            return Response({"results": each_json(rows)}, status=201)

        return once(request, append, lambda made: history.turn_of(found, made.data["results"][-1]["turn"]))

    @extend_schema(responses=answers(schema.MESSAGE))
    def retrieve(self, request: Request, session: str, position: str) -> Response:
        """The message at this position."""
        message = history.message_at(self.session(session), int(position))
        return Response(message_json(message, message.turn.number))

    @extend_schema(responses=answers(None, status=204, writes=True))
    def destroy(self, request: Request, session: str, position: str) -> Response:
        """Delete a message: a question with its replies, half a tool pair with the other half."""
        found = self.session(session)

        def delete() -> Response:
            history.delete_message(found.pk, int(position))
            return Response(status=204)

        return once(request, delete)

    @extend_schema(responses=answers(schema.SESSION, status=201, writes=True))
    @action(detail=True, methods=["post"])
    def fork(self, request: Request, session: str, position: str) -> Response:
        """Begin a new session with all that is shown up to this message."""
        self.body()
        found = self.session(session)
        return once(request, lambda: Response(session_json(history.fork(found, int(position))), status=201))


@extend_schema(parameters=[schema.SESSION_ID])
class TurnViewSet(ConvoViewSet):
    """The turns of a session: look, follow, cancel, answer again, choose."""

    lookup_field, lookup_value_regex = "number", "[0-9]{1,9}"
    serializers = {
        "regenerate": fields.Again,
        "retry": fields.Again,
        "edit": fields.Edit,
        "give_feedback": fields.Thumb,
    }
    parameters = {"list": ("cursor", "page_size"), "events": ("after",)}

    @extend_schema(
        operation_id="turns_list", parameters=schema.TURNS_PARAMETERS, responses=answers(schema.TURNS)
    )
    def list(self, request: Request, session: str) -> Response:
        """The session's turns, the latest first, without what was said in them."""
        rows = Turn.objects.filter(session=self.session(session)).select_related("feedback")
        cursor, size = self.asked.text("cursor"), self.asked.page_size()
        page = page_by(request, rows.defer(*UNTOLD), by="created_at", cursor=cursor, size=size)
        results = [turn_json(turn) for turn in page.rows]
        return Response({"results": results, "next": page.next, "previous": page.previous})

    @extend_schema(responses=answers(schema.WHOLE_TURN))
    def retrieve(self, request: Request, session: str, number: str) -> Response:
        """One turn with its messages, its usage, and the account of what the model saw."""
        turn = self._turn(session, number)
        messages = history.messages_of(turn)
        shown = {"messages": messages_json(messages, turn.number), "manifest": turn.manifest}
        return Response({**turn_json(turn), **shown, "alternatives": history.alternatives(turn)})

    @extend_schema(responses=answers(None, status=204, writes=True))
    def destroy(self, request: Request, session: str, number: str) -> Response:
        """Delete a turn's messages, and every other reply to its question."""
        found = self.session(session)

        def delete() -> Response:
            history.delete_turn(found.pk, int(number))
            return Response(status=204)

        return once(request, delete)

    @extend_schema(parameters=schema.EVENTS_PARAMETERS, responses=schema.EVENTS)
    @action(detail=True, methods=["get"])
    def events(self, request: Request, session: str, number: str) -> HttpResponseBase:
        """The turn's events behind `after` or Last-Event-ID: what was said, then what is being said."""
        turn = self._turn(session, number)
        after = self.asked.whole("after")
        return sse.replay(turn, after=_last_event_id(request) if after is None else after)

    @extend_schema(responses=answers(schema.REPLAY))
    @action(detail=True, methods=["get"])
    def context(self, request: Request, session: str, number: str) -> Response:
        """What the model saw in this turn, part by part; what was deleted or forgotten since has no text."""
        return Response(context.replay(self._turn(session, number)))

    @extend_schema(request=None, responses=answers(schema.WHOLE_TURN, writes=True))
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, session: str, number: str) -> Response:
        """Stop this turn, wherever it runs; what it has written is kept. An ended turn stays as it is."""
        self.body()
        turn = self._turn(session, number)
        # Only the key is kept in a transaction, for this waits for the end; asked twice, it changes nothing.
        again = once(request, Response).has_header(REPLAYED)
        turns.cancel(turn)
        shown = self.retrieve(request, session, number)
        return marked(shown) if again else shown

    @extend_schema(responses=answers(schema.ANSWER, writes=True, asks=True))
    @action(detail=True, methods=["post"])
    def regenerate(self, request: Request, session: str, number: str) -> HttpResponseBase:
        """Answer this turn's question once more; the old answer is kept beside the new one."""
        return self._answer_again(request, session, number)

    @extend_schema(responses=answers(schema.ANSWER, writes=True, asks=True))
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, session: str, number: str) -> HttpResponseBase:
        """Answer the question of a turn that failed; it is not asked twice."""
        turn = self._turn(session, number)
        if turn.status in {Turn.Status.COMPLETE, Turn.Status.QUEUED, Turn.Status.RUNNING}:
            raise InvalidRequest(f"Turn {number} is {turn.status}. Only a turn that broke off is retried.")
        return self._answer_again(request, session, number)

    @extend_schema(responses=answers(schema.ANSWER, writes=True, asks=True))
    @action(detail=True, methods=["post"])
    def edit(self, request: Request, session: str, number: str) -> HttpResponseBase:
        """Ask another question in this turn's place; the old branch is kept and can be activated."""
        return self._answer_again(request, session, number)

    @extend_schema(request=None, responses=answers(schema.SESSION, writes=True))
    @action(detail=True, methods=["post"])
    def activate(self, request: Request, session: str, number: str) -> Response:
        """Choose this turn among its alternatives: its branch becomes the conversation."""
        self.body()
        found = self.session(session)

        def choose() -> Response:
            turns.activate(found, int(number))
            return Response(session_json(self.session(session)))

        return once(request, choose)

    @extend_schema(responses=answers(schema.OPINION))
    @action(detail=True, methods=["get"])
    def feedback(self, request: Request, session: str, number: str) -> Response:
        """What was said of this reply; `value` is null where nothing was."""
        return Response(feedback_json(self._turn(session, number)) or NOTHING_SAID)

    @extend_schema(responses=answers(schema.OPINION, writes=True))
    @feedback.mapping.put
    def give_feedback(self, request: Request, session: str, number: str) -> Response:
        """Say what you think of a reply that has ended, in place of what was said before."""
        given, turn = self.body(), self._turn(session, number)

        def give() -> Response:
            kept = opinion_json(turns.give_feedback(turn, given["value"], given["note"]))
            return Response({**kept, "note": None})

        answer = once(request, give)
        if answer.status_code == 200:
            # Kept under no key, so that it goes with the reply; the same request has the same note.
            answer.data["note"] = given["note"]
        return answer

    @extend_schema(responses=answers(None, status=204, writes=True))
    @feedback.mapping.delete
    def take_feedback_back(self, request: Request, session: str, number: str) -> Response:
        """Take back what was said of this reply. The same answer when nothing was."""
        turn = self._turn(session, number)

        def take_back() -> Response:
            turns.take_feedback_back(turn)
            return Response(status=204)

        return once(request, take_back)

    def _answer_again(self, request: Request, session: str, number: str) -> HttpResponseBase:
        given = self.body()
        found = self.session(session, given.get("user"))
        edited = _edited(found, int(number), given["message"]) if "message" in given else []
        agent = given.get("agent", "")
        return answer(
            request, lambda key: turns.again(found, int(number), edited, agent=agent, key=key), given
        )

    def _turn(self, session: str, number: str) -> Turn:
        return history.turn_of(self.session(session), int(number))


def _edited(session: Session, number: int, text: str) -> list[Draft]:
    """The question of a turn in these words; that there is none is told once its key is known."""
    try:
        return history.reworded(history.turn_of(session, number), text)
    except NotFound:
        return [Draft(role="user", content=text)]


def _last_event_id(request: Request) -> int:
    given = request.META.get("HTTP_LAST_EVENT_ID", "")
    if not given:
        return -1
    if not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise InvalidRequest("Last-Event-ID is the `id` of an event of this turn.", param="Last-Event-ID")
    return int(given)
