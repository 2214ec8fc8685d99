"""Look up stored responses by their ids, and find the place that a request continues from."""

from convo import history
from convo.errors import InvalidRequest, NotFound, PreviousResponseNotFound
from convo.models import NOBODY, Person, Session, Turn, TurnRequest
from convo.openai_api import ids
from convo.openai_api.responses.request import ResponseRequest
from convo.openai_api.view import V1View
from convo.turns import new_chain


class StoredResponseView(V1View):
    """The base of all views that look up earlier responses."""

    def get_turn_request(self, id: str, person: str | None = None) -> TurnRequest:
        """Return the request of this response. An unknown id and another owner's give the same 404."""
        if turn_request := self.find_turn_request(id, person):
            return turn_request
        raise NotFound(f"Response with id '{id}' not found.")

    def find_turn_request(self, id: str, person: str | None = None) -> TurnRequest | None:
        key, owner = ids.uuid_of(ids.RESPONSE, id), self.request.user
        rows = TurnRequest.objects.owned_by(owner, TurnRequest.Surface.RESPONSE)
        if (refs := self.person_refs(person)) is not None:
            rows = rows.filter(turn__session__person__ref__in=refs)
        turn_request = rows.filter(turn__key=key).first() if key else None
        if turn_request:
            turn_request.turn.session._state.fields_cache["owner"] = owner
        return turn_request

    def previous_turn(self, id: str, person: str | None) -> Turn:
        """Return the ended turn that the request continues."""
        try:
            turn = self.get_turn_request(id, person).turn
        except NotFound as error:
            raise PreviousResponseNotFound(
                f"Previous response with id '{id}' not found.", param="previous_response_id"
            ) from error
        if not turn.has_ended:
            raise InvalidRequest(
                f"Response '{id}' is still being written. Wait for its end, or cancel it.",
                param="previous_response_id",
            )
        return turn

    def last_position(self, turn: Turn) -> int:
        """Return the position of the turn's last message, or 0 if all of them have been deleted."""
        return max((row.position for row in history.messages_of(turn)), default=0)

    def session_and_position(
        self, response_request: ResponseRequest, person: str | None
    ) -> tuple[Session, int]:
        """Return the session that a request continues, and the last position it sees. Nothing is stored."""
        if response_request.previous_response_id:
            turn = self.previous_turn(response_request.previous_response_id, person)
            return turn.session, self.last_position(turn)
        if response_request.conversation_id:
            session = self.conversation(response_request.conversation_id, person, param="conversation")
            return session, session.last_position
        session = new_chain(self.request.user, NOBODY)
        session.person = Person.objects.get_or_create_by_ref(self.request.user, person or NOBODY)
        return session, 0
