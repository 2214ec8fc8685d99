"""A whole conversation turn in one call, for code in the same process."""

from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync

from convo.errors import NotFound
from convo.history import Draft
from convo.models import ME, Session
from convo.turns.claim import begin
from convo.turns.runner import answer
from convo.turns.sessions import new_session, stored

# An id is written with its hyphens; whatever else a text is, it is a name of the application's own.
ID_LENGTH = 36


def ask(user: Any, session: Session | UUID | str, text: str) -> str:
    """The reply to this text in this session: one of the user's, by row, by id, or by a name of your own."""
    result = async_to_sync(answer)(begin(_session(user, session), [Draft(role="user", content=text)]))
    if result.failure:
        raise result.failure
    return result.message.content if result.message else ""


def _session(user: Any, session: Session | UUID | str) -> Session:
    if isinstance(session, Session):
        return session
    try:
        id = session if isinstance(session, UUID) else UUID(session) if len(session) == ID_LENGTH else None
    except ValueError:
        id = None
    if id is None:
        return stored(new_session(user, ME, ref=str(session)))[0]
    found = Session.objects.of(user).filter(pk=id).first()
    if found is None:
        raise NotFound("There is no such session.")
    return found
