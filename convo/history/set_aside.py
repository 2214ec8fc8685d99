"""Set a cleared transcript aside, while clearing can be undone: in a deleted session of its own.

Everything that leaves out deleted sessions (search, memory, prompts, every surface) leaves it out as well,
and the sweep that removes them for good removes it. Its rows keep their positions and numbers, so that they
can go back before the messages that came since.
"""

from convo import database
from convo.history import ephemeral
from convo.history.write import delete_set_aside, mark_summaries_stale, recount, reset_title, save_as_empty
from convo.models import IndexedMessage, Message, Session, Summary, Turn, scope_key_of

_COPIED_FIELDS = (
    *("owner", "person", "storage", "agent", "title", "title_turn", "base_position", "last_position"),
    *("last_turn", "message_count", "turn_count", "token_count", "last_activity"),
)


def set_aside(session: Session, seconds: float) -> Session | None:
    """Empty a locked session in which no turn runs; return what was cleared, or None if it was empty.

    A transcript that was set aside before is removed: only the last clear can be undone.
    """
    delete_set_aside(session)
    if session.base_position == session.last_position and not session.turns.exists():
        return None
    cleared_session = Session.objects.create(
        state=Session.State.DELETED,
        state_before=session.state,
        expires_at=database.seconds_from_now(seconds),
        forked_from=session,
        **{name: getattr(session, name) for name in _COPIED_FIELDS},
    )
    _move(session, cleared_session)
    reset_title(session, Message.objects.filter(session=cleared_session))
    save_as_empty(session)
    return cleared_session


def restore_cleared(cleared_session: Session, session: Session) -> None:
    """Put a cleared transcript back, before the messages that came since.

    Both sessions are locked, and no turn runs in them.
    """
    last = Message.objects.transcript(cleared_session).last()
    if last is not None:
        # The first turns since the clear have no parent; from now on they continue the restored transcript.
        session.turns.filter(parent=None).update(parent=last.turn_id)
    # A summary of the messages since then leaves out the restored ones.
    mark_summaries_stale(session, session.base_position + 1)
    _move(cleared_session, session)
    session.base_position = cleared_session.base_position
    if not session.title:
        session.title, session.title_turn = cleared_session.title, cleared_session.title_turn
    session.save(update_fields=["base_position", "title", "title_turn"])
    cleared_session.delete()
    recount(session)


def _move(source: Session, target: Session) -> None:
    ephemeral.move_contents(source, target)
    for model in (Turn, Message, Summary):
        model._default_manager.filter(session=source).update(session=target)
    index_rows = IndexedMessage.objects.filter(session=source)
    # The messages of a person are indexed under the person, whichever session they are in.
    scope = {} if target.person.ref else {"scope_key": scope_key_of(target.person, target)}
    index_rows.update(session=target, **scope)
