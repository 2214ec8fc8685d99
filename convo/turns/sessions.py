"""Where conversations begin: one way for every surface."""

from typing import Any

from convo import agents, history
from convo.errors import InvalidRequest
from convo.models import Person, Session

_GIVEN = ("owner", "agent", "storage", "title", "metadata")


def new_session(owner: Any, person: str, *, agent: str = "", **fields: Any) -> Session:
    """A session that is not stored yet: the beginning of a turn stores it, or `stored` does."""
    agent = agent or agents.default_name()
    fields.setdefault("storage", agents.get(agent).storage)
    session = Session(owner=owner, person=Person(owner=owner, ref=person), agent=agent, **fields)
    check_title(session, session.title)
    return session


def check_title(session: Session, title: str) -> None:
    """Refuse a title where it would tell of what is not kept."""
    if title and session.storage != Session.Storage.KEPT:
        raise InvalidRequest("A session of which nothing is kept has no title.", param="title")


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
    # Whoever asks for it anew doesn't want back the one that was deleted.
    discarded = Session.objects.discarded(session.owner)
    for id in discarded.filter(person=session.person, ref=session.ref).values_list("pk", flat=True):
        history.remove_if(discarded, id)
    given = {name: getattr(session, name) for name in _GIVEN}
    return Session.objects.get_or_create(person=session.person, ref=session.ref, defaults=given)
