"""Clear transcripts and delete sessions.

An undoable clear moves the transcript to a session of its own that is marked as deleted: search, memory,
prompts and every surface already skip those, and the sweep deletes them when the time to undo is over. Its
rows keep their positions, so they can go back before the messages added since.
"""

from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from convo import database
from convo.errors import NotFound, ResultDeleted
from convo.history import ephemeral
from convo.history.files import attachments
from convo.history.session_row import lock, recount, reset_title
from convo.models import (
    Evidence,
    Feedback,
    IdempotencyRecord,
    IndexedMessage,
    Message,
    Session,
    Summary,
    Turn,
    TurnRequest,
    UserMemory,
    scope_key_of,
)

_COPIED_FIELDS = (
    *("owner", "person", "storage", "agent", "title", "title_turn", "base_position", "last_position"),
    *("last_turn", "message_count", "turn_count", "token_count", "last_activity"),
)


@database.retry_conflicts
@transaction.atomic
def clear(session_id: UUID) -> None:
    """Delete the transcript and keep the session. A running turn ends, because its row is gone."""
    session = lock(session_id)
    _delete_cleared_sessions(session)
    if _is_empty(session):
        return
    reset_title(session, Message.objects.filter(session=session))
    _delete_all_but_session(session)
    _save_as_empty(session)


@database.retry_conflicts
@transaction.atomic
def remove(session_id: UUID) -> None:
    if not remove_if(Session.objects.all(), session_id):
        raise NotFound("There is no such session.")


@database.retry_conflicts
@transaction.atomic
def remove_if(sessions: QuerySet[Session], session_id: UUID) -> bool:
    """Lock and delete this session if it is one of `sessions`; return whether it was."""
    session = sessions.select_for_update().filter(pk=session_id).first()
    if session is None:
        return False
    _delete_cleared_sessions(session)
    _delete_all_but_session(session)
    session.delete()
    return True


def set_aside(session: Session, seconds: float) -> Session | None:
    """Empty a locked session in which no turn runs; return what was cleared, or None if it was empty.

    A transcript that was set aside before is removed: only the last clear can be undone.
    """
    _delete_cleared_sessions(session)
    if _is_empty(session):
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
    _save_as_empty(session)
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
    Summary.objects.mark_stale(session, session.base_position + 1)
    _move(cleared_session, session)
    session.base_position = cleared_session.base_position
    if not session.title:
        session.title, session.title_turn = cleared_session.title, cleared_session.title_turn
    session.save(update_fields=["base_position", "title", "title_turn"])
    cleared_session.delete()
    recount(session)


def _is_empty(session: Session) -> bool:
    return session.base_position == session.last_position and not session.turns.exists()


def _save_as_empty(session: Session) -> None:
    session.epoch += 1
    session.base_position = session.last_position
    session.message_count = session.turn_count = session.token_count = 0
    session.save(update_fields=["epoch", "base_position", "message_count", "turn_count", "token_count"])


def _delete_cleared_sessions(session: Session) -> None:
    for cleared_session in Session.objects.cleared_from(session):
        _delete_all_but_session(cleared_session)
        cleared_session.delete()


def _delete_all_but_session(session: Session) -> None:
    """Delete the messages and turns of a locked session, and all that came of them.

    Facts that were learned from these messages alone go as well.
    """
    # A late retry must neither restore a message that is deleted here nor send it to a model again.
    IdempotencyRecord.objects.filter(turn__session=session).update(
        turn=None, status=ResultDeleted.status, body=None
    )
    # An attachment goes with the last message that uses it, so this comes before the messages.
    attachments.detach(Message.objects.filter(session=session))
    # There is one statement per table: Django's own cascade would load every message of a long session first.
    for rows in (
        Evidence.objects.filter(message__session=session),
        IndexedMessage.objects.filter(session=session),
        Message.objects.filter(session=session),
        Summary.objects.filter(session=session),
        TurnRequest.objects.filter(turn__session=session),
        Feedback.objects.filter(turn__session=session),
        Turn.objects.filter(session=session),
    ):
        rows._raw_delete(rows.db)
    ephemeral.prune_contents(session)
    UserMemory.objects.unsupported(session.person_id).retract()


def _move(source: Session, target: Session) -> None:
    ephemeral.move_contents(source, target)
    for model in (Turn, Message, Summary):
        model._default_manager.filter(session=source).update(session=target)
    index_rows = IndexedMessage.objects.filter(session=source)
    # The messages of a person are indexed under the person, whichever session they are in.
    scope = {} if target.person.ref else {"scope_key": scope_key_of(target.person, target)}
    index_rows.update(session=target, **scope)
