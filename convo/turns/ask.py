"""A whole conversation turn in one call, for code in the same process."""

from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync

from convo.errors import NotFound
from convo.history import NewMessage
from convo.models import ME, Session
from convo.turns.claim import begin
from convo.turns.runner import answer
from convo.turns.sessions import new_session, store_session

# A UUID is written with its hyphens; a text of any other length is the application's own name for a session.
ID_LENGTH = 36


def ask(user: Any, session: Session | UUID | str, text: str) -> str:
    """Ask a question in one of the user's sessions and return the text of the reply.

    Name the session by its row, its id, or a name of your own; a new name creates a session.
    """
    result = async_to_sync(answer)(
        begin(_get_session(user, session), [NewMessage(role="user", content=text)])
    )
    if result.failure:
        raise result.failure
    return result.message.content if result.message else ""


def _get_session(user: Any, session: Session | UUID | str) -> Session:
    if isinstance(session, Session):
        return session
    try:
        session_id = (
            session if isinstance(session, UUID) else UUID(session) if len(session) == ID_LENGTH else None
        )
    except ValueError:
        session_id = None
    if session_id is None:
        return store_session(new_session(user, ME, ref=str(session)))[0]
    stored_session = Session.objects.owned_by(user).filter(pk=session_id).first()
    if stored_session is None:
        raise NotFound("There is no such session.")
    return stored_session
