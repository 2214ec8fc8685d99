"""The REST API: the turns of a session, and its messages one by one."""

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from convo import context, history, turns
from convo.errors import InvalidRequest, NotFound
from convo.history import NewMessage
from convo.http.answer import follow
from convo.http.auth import check_roles
from convo.http.converters import WHOLE_NUMBER_PATTERN
from convo.http.idempotency import REPLAYED_HEADER, mark_replayed, process_once
from convo.http.query import QueryParams
from convo.http.representations import (
    feedback_json,
    feedback_value_json,
    message_json,
    messages_json,
    session_json,
    turn_json,
)
from convo.models import Message, Session, Turn
from convo.rest import schema, serializers
from convo.rest.reply import RestReply, answer_question
from convo.rest.schema import responses
from convo.rest.viewset import ConvoViewSet

# Columns that may be long, and that a list of turns does not show.
DEFERRED_COLUMNS = ("manifest", "draft", "chunks", "input")
NO_FEEDBACK = {"value": None, "note": "", "created_at": None}


@extend_schema(parameters=[schema.SESSION_ID])
class MessageViewSet(ConvoViewSet):
    """The messages of a session: append, read and delete them, or fork the session at one."""

    lookup_field, lookup_value_regex = "position", WHOLE_NUMBER_PATTERN
    serializer_classes = {"create": serializers.NewMessagesSerializer}

    @extend_schema(responses=responses(schema.APPENDED_MESSAGES, status=201, writes=True))
    def create(self, request: Request, session: str) -> Response:
        """Append messages that were made elsewhere, without asking a model."""
        data = self.validated_body()
        check_roles(request, [message["role"] for message in data["messages"]])
        session_row = self.get_session(session, data.get("user"))

        messages: list[Message] = []

        def append() -> Response:
            new_messages = [serializers.new_message(message) for message in data["messages"]]
            messages[:] = turns.record(session_row, new_messages)
            return Response({"results": messages_json(messages)}, status=201)

        return process_once(request, append, lambda _: messages[-1].turn)

    @extend_schema(responses=responses(schema.MESSAGE))
    def retrieve(self, request: Request, session: str, position: str) -> Response:
        """The message at this position."""
        message = history.message_at(self.get_session(session), int(position))
        return Response(message_json(message, message.turn.number))

    @extend_schema(responses=responses(None, status=204, writes=True))
    def destroy(self, request: Request, session: str, position: str) -> Response:
        """Delete a message. A question is deleted with its replies, a tool call with its output."""
        session_id = self.get_session(session).pk
        return self.delete_once(lambda: history.delete_message(session_id, int(position)))

    @extend_schema(responses=responses(schema.SESSION, status=201, writes=True))
    @action(detail=True, methods=["post"])
    def fork(self, request: Request, session: str, position: str) -> Response:
        """Create a new session with a copy of the transcript up to this message."""
        self.validated_body()
        session_row = self.get_session(session)
        return process_once(
            request, lambda: Response(session_json(history.fork(session_row, int(position))), status=201)
        )


@extend_schema(parameters=[schema.SESSION_ID])
class TurnViewSet(ConvoViewSet):
    """The turns of a session: read, follow, cancel, regenerate, edit and activate them."""

    lookup_field, lookup_value_regex = "number", WHOLE_NUMBER_PATTERN
    serializer_classes = {
        "regenerate": serializers.RegenerateSerializer,
        "retry": serializers.RegenerateSerializer,
        "edit": serializers.EditSerializer,
        "give_feedback": serializers.FeedbackSerializer,
    }
    allowed_params = {"list": ("cursor", "page_size"), "events": ("after",)}

    @extend_schema(
        operation_id="turns_list", parameters=schema.TURNS_PARAMETERS, responses=responses(schema.TURNS)
    )
    def list(self, request: Request, session: str) -> Response:
        """The session's turns, the latest first, without their messages."""
        rows = Turn.objects.filter(session=self.get_session(session)).select_related("feedback")
        return self.list_response(rows.defer(*DEFERRED_COLUMNS), order_by="created_at", render=turn_json)

    @extend_schema(responses=responses(schema.TURN_DETAIL))
    def retrieve(self, request: Request, session: str, number: str) -> Response:
        """One turn with its messages, its usage, and the manifest of its prompt."""
        turn = self._turn(session, number)
        messages = history.messages_of(turn)
        details = {"messages": messages_json(messages, turn.number), "manifest": turn.manifest}
        alternatives = history.alternatives(turn.session, [turn])[turn.pk]
        return Response({**turn_json(turn), **details, "alternatives": alternatives})

    @extend_schema(responses=responses(None, status=204, writes=True))
    def destroy(self, request: Request, session: str, number: str) -> Response:
        """Delete a turn's messages, and every other reply to its question."""
        session_id = self.get_session(session).pk
        return self.delete_once(lambda: history.delete_turn(session_id, int(number)))

    @extend_schema(parameters=schema.EVENTS_PARAMETERS, responses=schema.EVENTS)
    @action(detail=True, methods=["get"])
    def events(self, request: Request, session: str, number: str) -> HttpResponseBase:
        """The turn's events since `after` or Last-Event-ID: past ones, then new ones as they happen."""
        turn = self._turn(session, number)
        after = self.params.integer("after")
        if after is None:
            after = QueryParams(request.headers, ignore_empty=True).integer("Last-Event-ID")
        reply = RestReply(turn=turn, is_streamed=True, after=-1 if after is None else after)
        return follow(request._request, reply)

    @extend_schema(responses=responses(schema.PROMPT_PARTS))
    @action(detail=True, methods=["get"])
    def context(self, request: Request, session: str, number: str) -> Response:
        """The prompt of this turn, part by part. Sources that have been deleted or forgotten have no text."""
        return Response(context.replay(self._turn(session, number)))

    @extend_schema(request=None, responses=responses(schema.TURN_DETAIL, writes=True))
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, session: str, number: str) -> Response:
        """Stop this turn, wherever it runs; the reply so far is kept. An ended turn stays as it is."""
        self.validated_body()
        turn = self._turn(session, number)
        # Cancelling waits for the turn's end, which must not happen in a transaction, so only the key is
        # stored in one. Cancelling twice changes nothing.
        is_replay = process_once(request, Response).has_header(REPLAYED_HEADER)
        turns.cancel(turn)
        response = self.retrieve(request, session, number)
        return mark_replayed(response) if is_replay else response

    @extend_schema(responses=responses(schema.REPLY, writes=True, asks=True))
    @action(detail=True, methods=["post"])
    def regenerate(self, request: Request, session: str, number: str) -> HttpResponseBase:
        """Answer this turn's question once more; the old reply is kept as an alternative."""
        return self._answer_again(request, session, number)

    @extend_schema(responses=responses(schema.REPLY, writes=True, asks=True))
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, session: str, number: str) -> HttpResponseBase:
        """Answer the question of a turn that failed, without appending the question again."""
        turn = self._turn(session, number)
        if turn.status in {Turn.Status.COMPLETE, Turn.Status.QUEUED, Turn.Status.RUNNING}:
            raise InvalidRequest(f"Turn {number} is {turn.status}. Only a turn that broke off is retried.")
        return self._answer_again(request, session, number)

    @extend_schema(responses=responses(schema.REPLY, writes=True, asks=True))
    @action(detail=True, methods=["post"])
    def edit(self, request: Request, session: str, number: str) -> HttpResponseBase:
        """Ask an edited question in this turn's place; the old branch is kept and can be activated."""
        return self._answer_again(request, session, number)

    @extend_schema(request=None, responses=responses(schema.SESSION, writes=True))
    @action(detail=True, methods=["post"])
    def activate(self, request: Request, session: str, number: str) -> Response:
        """Choose this turn among its alternatives: its branch becomes the conversation."""
        self.validated_body()
        session_row = self.get_session(session)

        def choose() -> Response:
            turns.activate(session_row, int(number))
            return Response(session_json(self.get_session(session)))

        return process_once(request, choose)

    @extend_schema(responses=responses(schema.FEEDBACK))
    @action(detail=True, methods=["get"])
    def feedback(self, request: Request, session: str, number: str) -> Response:
        """The feedback on this reply; `value` is null if there is none."""
        return Response(feedback_json(self._turn(session, number)) or NO_FEEDBACK)

    @extend_schema(responses=responses(schema.FEEDBACK, writes=True))
    @feedback.mapping.put
    def give_feedback(self, request: Request, session: str, number: str) -> Response:
        """Give feedback on a reply that has ended; it replaces earlier feedback."""
        data, turn = self.validated_body(), self._turn(session, number)

        def give() -> Response:
            opinion = feedback_value_json(turns.save_feedback(turn, data["value"], data["note"]))
            return Response({**opinion, "note": None})

        response = process_once(request, give)
        if response.status_code == 200:
            # The idempotency key's row stores no note, so that the note is deleted with the reply. A repeated
            # request brings the same note again.
            response.data["note"] = data["note"]
        return response

    @extend_schema(responses=responses(None, status=204, writes=True))
    @feedback.mapping.delete
    def delete_feedback(self, request: Request, session: str, number: str) -> Response:
        """Delete the feedback on this reply. The response is the same if there is none."""
        turn = self._turn(session, number)
        return self.delete_once(lambda: turns.delete_feedback(turn))

    def _answer_again(self, request: Request, session: str, number: str) -> HttpResponseBase:
        data = self.validated_body()
        session_row = self.get_session(session, data.get("user"))
        question = _edited_question(session_row, int(number), data["message"]) if "message" in data else []
        agent = data.get("agent", "")
        return answer_question(
            request,
            lambda key: turns.regenerate(session_row, int(number), question, agent=agent, key=key),
            data,
        )

    def _turn(self, session: str, number: str) -> Turn:
        return history.get_turn(self.get_session(session), int(number))


def _edited_question(session: Session, number: int, text: str) -> list[NewMessage]:
    """Return the question of a turn with this text in place of its own."""
    try:
        return history.edited_question(history.get_turn(session, number), text)
    except NotFound:
        # `turns.regenerate` finds no turn either, and raises where the error is stored under the key.
        return [NewMessage(role="user", content=text)]
