"""Look up stored responses by their ids."""

from convo import history
from convo.errors import InvalidRequest, NotFound, PreviousResponseNotFound
from convo.models import Turn, TurnRequest
from convo.openai_api import ids
from convo.openai_api.view import V1View


class StoredResponseView(V1View):
    """The base of all views that look up earlier responses."""

    def get_turn_request(self, id: str, person: str | None = None) -> TurnRequest:
        """Return the request of this response. An unknown id and another owner's give the same 404."""
        if turn_request := self.find_turn_request(id, person):
            return turn_request
        raise NotFound(f"Response with id '{id}' not found.")

    def find_turn_request(self, id: str, person: str | None = None) -> TurnRequest | None:
        key, rows = ids.uuid_of(ids.RESPONSE, id), self.turn_requests(TurnRequest.Surface.RESPONSE, person)
        turn_request = rows.filter(turn__key=key).first() if key else None
        if turn_request:
            turn_request.turn.session._state.fields_cache["owner"] = self.request.user
        return turn_request

    def previous_turn(self, id: str, person: str | None) -> Turn:
        """Return the ended turn that the request continues."""
        turn_request = self.find_turn_request(id, person)
        if turn_request is None:
            raise PreviousResponseNotFound(
                f"Previous response with id '{id}' not found.", param="previous_response_id"
            )
        turn = turn_request.turn
        if not turn.has_ended:
            raise InvalidRequest(
                f"Response '{id}' is still being written. Wait for its end, or cancel it.",
                param="previous_response_id",
            )
        return turn

    def last_position(self, turn: Turn) -> int:
        """Return the position of the turn's last message, or 0 if all of them have been deleted."""
        return max((row.position for row in history.messages_of(turn)), default=0)
