"""Learn from one turn in one request: its gist, a title for the session, and facts about the person."""

import logging
from collections.abc import Sequence

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from convo import database, search
from convo.jobs import job
from convo.memory import model_requests, patterns, screen
from convo.memory.facts import MAX_TITLE_LENGTH, Notes, one_line, request_notes
from convo.memory.store import add_copies_as_evidence, learn_facts
from convo.models import NOBODY, Message, Person, Session, Turn
from convo.models.messages import MessageQuerySet

logger = logging.getLogger(__name__)


def overdue(limit: int) -> list[int]:
    return list(_turns_to_learn_from().order_by("id").values_list("pk", flat=True)[:limit])


def has_unlearned_turns(person: Person) -> bool:
    """Return True if this person said something that was not learned from yet."""
    return _turns_to_learn_from().filter(session__person=person).exists()


@job("learn", overdue=overdue)
def learn(turn_id: int) -> None:
    """Learn from the user's messages in this turn, once however often it is called."""
    turn = Turn.objects.filter(pk=turn_id, learned_at=None).select_related("session__person").first()
    if turn is None or not turn.has_ended or turn.session.state == Session.State.DELETED:
        return
    # The turn is indexed here so that searches find it at once; the sweep would index it later.
    if turn.indexed_at is None:
        search.index_turn_batch([turn.pk])
    messages = _user_messages(turn).beginnings(screen.MAX_CHARACTERS)
    _save_if_unchanged(turn, messages, _take_notes(turn, messages) if messages else Notes())


def _turns_to_learn_from() -> QuerySet[Turn]:
    # A session with a `state_before` is deleted, although it can still be restored.
    turns = Turn.objects.filter(learned_at=None, session__state_before__isnull=True)
    return turns.exclude(status__in=[Turn.Status.QUEUED, Turn.Status.RUNNING])


def _user_messages(turn: Turn) -> MessageQuerySet:
    session = turn.session
    if session.kind != Session.Kind.CONVERSATION or session.storage != Session.Storage.PERSISTENT:
        return Message.objects.none()
    rows = Message.objects.transcript(session).filter(turn=turn, role=Message.Role.USER, recallable=True)
    return rows.filter(type="message").exclude(content="")


def _take_notes(turn: Turn, messages: Sequence[Message]) -> Notes:
    agent = model_requests.agent_or_default(turn.agent)
    if not agent.learn:
        return Notes()
    if _is_fork_copy(turn):
        return Notes(gist=turn.gist, title=_title_from_gist(turn))
    if turn.gist and turn.session.title:
        return Notes(gist=turn.gist)
    model = model_requests.model_for(agent)
    budget = model_requests.data_budget(agent)
    notes = request_notes(model, messages, budget) if model else patterns.take_notes(messages)
    # A turn with a gist was learned from before; only the session's title was taken back since.
    return Notes(gist=turn.gist, title=notes.title or _title_from_gist(turn)) if turn.gist else notes


def _title_from_gist(turn: Turn) -> str:
    return one_line(turn.gist, MAX_TITLE_LENGTH)


def _is_fork_copy(turn: Turn) -> bool:
    # A turn that had a gist when a fork copied it was learned from before, so nothing in it is new.
    return bool(turn.gist) and turn.session.forked_from_id is not None


@database.retry_conflicts
@transaction.atomic
def _save_if_unchanged(snapshot: Turn, messages: Sequence[Message], notes: Notes) -> None:
    """Save what was learned, unless something that it is based on has changed meanwhile."""
    session = Session.objects.lock(snapshot.session_id)
    if session is None or session.epoch != snapshot.session.epoch:
        return
    person = Person.objects.select_for_update(no_key=True).get(pk=session.person_id)
    if person.epoch != snapshot.session.person.epoch:
        return
    turn = Turn.objects.filter(pk=snapshot.pk, learned_at=None).first()
    if turn is None or list(_user_messages(turn).values_list("pk", flat=True)) != [
        row.pk for row in messages
    ]:
        return
    turn.gist, turn.learned_at = notes.gist, Now()
    turn.save(update_fields=["gist", "learned_at"])
    if notes.title and not session.title:
        session.title, session.title_turn = notes.title, turn.number
        session.save(update_fields=["title", "title_turn"])
    if person.ref != NOBODY and model_requests.agent_or_default(turn.agent).memory:
        learn_facts(person, notes.facts)
        if _is_fork_copy(snapshot):
            add_copies_as_evidence(person, messages)
