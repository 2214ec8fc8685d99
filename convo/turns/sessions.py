"""Where conversations begin: one way for every surface."""

from typing import Any

from convo import agents, history
from convo.models import Person, Session

_GIVEN = ("owner", "agent", "title", "metadata")


def new_session(owner: Any, person: str, *, agent: str = "", **fields: Any) -> Session:
    """A session that is not stored yet: the beginning of a turn stores it, or `stored` does."""
    whose = Person(owner=owner, ref=person)
    return Session(owner=owner, person=whose, agent=agent or agents.default_name(), **fields)


def stored(session: Session) -> tuple[Session, bool]:
    """The session, stored; or the person's one that has the same `ref` already. And whether it is new.

    One that was forked in thought only is forked now.
    """
    if session.forked_from:
        fields = {name: getattr(session, name) for name in ("kind", "agent", "expires_at")}
        assert session.forked_at is not None  # `chain.branch_of` sets both
        return history.fork(session.forked_from, session.forked_at, title="", metadata={}, **fields), True
    session.person = Person.objects.named(session.owner, session.person.ref)
    if session.ref is None:
        session.save()
        return session, True
    given = {name: getattr(session, name) for name in _GIVEN}
    return Session.objects.get_or_create(person=session.person, ref=session.ref, defaults=given)
