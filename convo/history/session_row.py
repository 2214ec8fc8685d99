"""The row of a session: lock it, and keep it and all that was derived true to a changed transcript."""

from uuid import UUID

from django.db.models import Count, QuerySet, Sum

from convo.errors import NotFound
from convo.models import Message, Session, Turn


def lock(session_id: UUID) -> Session:
    """Lock the session's row until the transaction ends, and return it; raise NotFound if it is deleted."""
    session = Session.objects.lock(session_id)
    if session is None or session.state == Session.State.DELETED:
        raise NotFound("There is no such session.")
    return session


def recount(session: Session) -> None:
    """Recount a locked session whose branches or messages have changed, and raise its epoch."""
    totals = Message.objects.transcript(session).aggregate(messages=Count("id"), tokens=Sum("tokens"))
    session.message_count, session.token_count = totals["messages"], totals["tokens"] or 0
    # A turn without any message counts: it has none yet, or it is a regenerated reply that failed.
    erased_turns = session.turns.filter(messages__isnull=False).exclude(messages__erased_at=None).distinct()
    session.turn_count = session.turns.count() - erased_turns.count()
    session.epoch += 1
    session.save(update_fields=["message_count", "token_count", "turn_count", "epoch"])


def reset_title(session: Session, hidden_messages: QuerySet[Message]) -> None:
    """Remove the title of a locked session if it was learned from these messages, which are no longer shown.

    Another one is learned from the messages that are left; a title that a person set stays.
    """
    if session.title_turn is None:
        return
    if not hidden_messages.filter(turn__number=session.title_turn, role=Message.Role.USER).exists():
        return
    session.title, session.title_turn = "", None
    session.save(update_fields=["title", "title_turn"])
    questions = Message.objects.transcript(session).filter(role=Message.Role.USER, recallable=True)
    if first_question := questions.exclude(content="").first():
        Turn.objects.filter(pk=first_question.turn_id).update(learned_at=None)
