"""Responses that there are already: found by their ids, and gone on from."""

from convo import history
from convo.errors import InvalidRequest, NotFound, PreviousResponseNotFound
from convo.http.openai_api import ids
from convo.http.openai_api.responses.wanted import Wanted
from convo.http.openai_api.view import V1View
from convo.models import NOBODY, Asked, Person, Session, Turn
from convo.turns import new_chain


class StoredResponses(V1View):
    """Views that look up what was answered before."""

    def response_of(self, id: str, person: str | None = None) -> Asked:
        """What was asked for with the response of this id; an unknown one and another's are the same 404."""
        if found := self.find(id, person):
            return found
        raise NotFound(f"Response with id '{id}' not found.")

    def find(self, id: str, person: str | None = None) -> Asked | None:
        key, owner = ids.uuid_of(ids.RESPONSE, id), self.request.user
        rows = Asked.objects.of(owner, Asked.Surface.RESPONSE)
        if (refs := self.people(person)) is not None:
            rows = rows.filter(turn__session__person__ref__in=refs)
        return rows.filter(turn__key=key).first() if key else None

    def previous(self, id: str, person: str | None) -> Turn:
        """The ended turn that a caller goes on from."""
        try:
            turn = self.response_of(id, person).turn
        except NotFound as error:
            raise PreviousResponseNotFound(
                f"Previous response with id '{id}' not found.", param="previous_response_id"
            ) from error
        if not turn.ended:
            raise InvalidRequest(
                f"Response '{id}' is still being written. Wait for its end, or cancel it.",
                param="previous_response_id",
            )
        return turn

    def place(self, want: Wanted, person: str | None) -> tuple[Session, int]:
        """The session that a request goes on in, and up to which position; nothing is stored of it."""
        if want.previous:
            turn = self.previous(want.previous, person)
            return turn.session, max((row.position for row in history.messages_of(turn)), default=0)
        if want.conversation:
            session = self.conversation(want.conversation, person, param="conversation")
            return session, session.last_position
        session = new_chain(self.request.user, NOBODY)
        session.person = Person.objects.named(self.request.user, person or NOBODY)
        return session, 0
