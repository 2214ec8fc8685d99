"""Create sessions, in the same way for every surface."""

from typing import Any

from convo import agents, history
from convo.errors import InvalidRequest
from convo.models import Person, Session

_NEW_SESSION_FIELDS = ("owner", "agent", "storage", "title", "metadata")


def new_session(owner: Any, person: str, *, agent: str = "", **fields: object) -> Session:
    """Return a session that is not stored yet; `turns.begin` or `store_session` stores it."""
    agent = agent or agents.default_name()
    fields.setdefault("storage", agents.get(agent).storage)
    session = Session(owner=owner, person=Person(owner=owner, ref=person), agent=agent, **fields)
    check_title(session, session.title)
    return session


def check_title(session: Session, title: str) -> None:
    """Refuse a title for a session that is not kept: the title would reveal what was said."""
    if title and session.storage != Session.Storage.PERSISTENT:
        raise InvalidRequest(
            "A session that does not store its messages can't have a title. Leave it out.", param="title"
        )


def store_person(session: Session) -> Session:
    """Give the session the stored row of its person, and return it."""
    session.person = Person.objects.get_or_create_by_ref(session.owner, session.person.ref)
    return session


def store_session(session: Session) -> tuple[Session, bool]:
    """Store the session, or get the person's session with the same `ref`; return it and whether it is new.

    A fork that was only planned, as by `chain.forked_chain`, is made now.
    """
    if session.forked_from:
        fields = {name: getattr(session, name) for name in ("kind", "agent", "expires_at")}
        assert session.fork_position is not None  # `chain.forked_chain` sets both
        return history.fork(session.forked_from, session.fork_position, title="", metadata={}, **fields), True
    store_person(session)
    if session.ref is None:
        session.save(force_insert=True)
        return session, True
    # A deleted session with the same ref is removed for good, so that a new one can have its name.
    deleted_sessions = Session.objects.discarded(session.owner)
    for session_id in deleted_sessions.filter(person=session.person, ref=session.ref).values_list(
        "pk", flat=True
    ):
        history.remove_if(deleted_sessions, session_id)
    defaults = {name: getattr(session, name) for name in _NEW_SESSION_FIELDS}
    return Session.objects.get_or_create(person=session.person, ref=session.ref, defaults=defaults)


def share_person(session: Session, locked_session: Session) -> None:
    """Give the locked session the rows that the caller has loaded, unless it has another person since."""
    if session.person_id == locked_session.person_id:
        locked_session._state.fields_cache |= session._state.fields_cache
