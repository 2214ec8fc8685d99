"""Learn from one turn in one request: its gist, a title for the session, and facts about the person."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from convo import database, search
from convo.jobs import bulk_job, enqueue, job
from convo.memory import due, model_requests, patterns, screen
from convo.memory.facts import MAX_TITLE_LENGTH, Notes, one_line, request_notes
from convo.memory.store import add_copies_as_evidence, learn_facts
from convo.models import NOBODY, Message, Person, Session, Turn
from convo.models.messages import MessageQuerySet

logger = logging.getLogger(__name__)


# A transaction saves what at most this many turns taught: it locks their sessions, and appends wait for it.
TURNS_PER_TRANSACTION = 25
# A request schedules at most this many of its turns; the sweep finds the others.
MAX_SCHEDULED_TURNS = 20
_SESSION_FIELDS = ("person", "kind", "storage", "state", "epoch", "title", "forked_from", "agent")
_TURN_FIELDS = ("session", "number", "status", "agent", "gist", "indexed_at", "learned_at")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """The notes on a turn: the turn with its session, and the user's messages that they are based on."""

    turn: Turn
    messages: Sequence[Message]
    notes: Notes


def schedule(session: Session, turns: Iterable[Turn]) -> None:
    """Schedule learning from these turns of a session, and a summary that may be due, after the commit.

    A turn takes one hint: the job that learns from it also requests the summary that it makes due.
    """
    agent = model_requests.agent_or_default(session.agent)
    # The jobs also index the turn, so an agent that recalls messages needs it soon even if it doesn't learn.
    # For all other agents the sweep indexes it.
    turns = list(turns) if agent.learn or agent.recall else []
    by_model = [
        turn for turn in turns if model_requests.asks_for_notes(model_requests.agent_or_default(turn.agent))
    ]
    for turn in by_model[:MAX_SCHEDULED_TURNS]:
        enqueue("learn", turn.pk)
    if len(by_model) < len(turns):
        # This job does all that waits.
        enqueue("learn_by_rules", turns[0].pk)
    if not turns and agent.summaries and session.message_count > agent.window_pairs:
        enqueue("summarise", session.pk)


def overdue(limit: int) -> list[int]:
    """Return the turns of which a model takes the notes."""
    return _first_keys(_turns_to_learn_from().filter(model_requests.notes_by_model()), limit)


def overdue_by_rules(limit: int) -> list[int]:
    return _first_keys(_turns_to_learn_from().exclude(model_requests.notes_by_model()), limit)


def has_unlearned_turns(person: Person) -> bool:
    return _turns_to_learn_from().filter(session__person=person).exists()


@job("learn", overdue=overdue)
def learn(turn_id: int) -> None:
    """Learn from the user's messages in this turn, once however often it is called."""
    _learn([turn_id])


@bulk_job("learn_by_rules", overdue=overdue_by_rules)
def learn_by_rules(turn_ids: Sequence[int]) -> None:
    """Learn from many turns at once, without a model."""
    _learn(turn_ids)


def _learn(turn_ids: Sequence[int]) -> None:
    turns = [
        turn for turn in _load(turn_ids) if turn.has_ended and turn.session.state != Session.State.DELETED
    ]
    # The turns are indexed here so that searches find them at once; the sweep would index them later.
    if unindexed := [turn.pk for turn in turns if turn.indexed_at is None]:
        search.index_turn_batch(unindexed)
    messages = _messages_by_turn(turns)
    lessons = [
        Lesson(turn=turn, messages=rows, notes=_take_notes(turn, rows) if rows else Notes())
        for turn in turns
        for rows in [messages[turn.pk]]
    ]
    for batch in database.in_batches(lessons, TURNS_PER_TRANSACTION):
        _save_if_unchanged(batch)
    for session_id in due.sessions_due({turn.session_id: turn.session for turn in turns}.values()):
        enqueue("summarise", session_id)


def _load(turn_ids: Sequence[int]) -> Sequence[Turn]:
    rows = Turn.objects.filter(pk__in=turn_ids, learned_at=None).select_related("session__person")
    fields = [*_TURN_FIELDS, *(f"session__{name}" for name in _SESSION_FIELDS)]
    # In the order of the sessions' keys, two concurrent writers of many sessions can't deadlock.
    return list(rows.only(*fields, "session__person__epoch").order_by("session", "pk"))


def _first_keys(turns: QuerySet[Turn], limit: int) -> list[int]:
    return list(turns.order_by("id").values_list("pk", flat=True)[:limit])


def _turns_to_learn_from() -> QuerySet[Turn]:
    # A session with a `state_before` is deleted, although it can still be restored.
    return Turn.objects.ended().filter(learned_at=None, session__state_before__isnull=True)


def _messages_by_turn(turns: Sequence[Turn]) -> Mapping[int, list[Message]]:
    """Return the beginnings of the messages that each of these turns is learned from."""
    by_turn: dict[int, list[Message]] = defaultdict(list)
    for message in _user_messages(turns).beginnings(screen.MAX_CHARACTERS):
        by_turn[message.turn_id].append(message)
    return by_turn


def _user_messages(turns: Sequence[Turn]) -> MessageQuerySet:
    turn_ids = [turn.pk for turn in turns if turn.session.is_recallable]
    rows = Message.objects.filter(thread="", active=True, erased_at=None)
    rows = rows.filter(turn__in=turn_ids, role=Message.Role.USER, recallable=True)
    return rows.filter(type="message").exclude(content="").order_by("position")


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
def _save_if_unchanged(lessons: Sequence[Lesson]) -> None:
    """Save what was learned, except where something that it is based on has changed meanwhile."""
    sessions = _lock_unchanged_sessions(lessons)
    lessons = [lesson for lesson in lessons if lesson.turn.session_id in sessions]
    people = _lock_unchanged_people(lessons)
    lessons = [lesson for lesson in lessons if lesson.turn.session.person_id in people]
    lessons = _still_true(lessons)
    for lesson in lessons:
        lesson.turn.gist, lesson.turn.learned_at = lesson.notes.gist, Now()
    Turn.objects.bulk_update([lesson.turn for lesson in lessons], ["gist", "learned_at"])
    for lesson in lessons:
        session, person = sessions[lesson.turn.session_id], people[lesson.turn.session.person_id]
        if lesson.notes.title and not session.title:
            session.title, session.title_turn = lesson.notes.title, lesson.turn.number
            session.save(update_fields=["title", "title_turn"])
        if person.ref != NOBODY and model_requests.agent_or_default(lesson.turn.agent).memory:
            learn_facts(person, lesson.notes.facts)
            if _is_fork_copy(lesson.turn):
                add_copies_as_evidence(person, lesson.messages)


def _lock_unchanged_sessions(lessons: Sequence[Lesson]) -> Mapping[UUID, Session]:
    epochs = {lesson.turn.session_id: lesson.turn.session.epoch for lesson in lessons}
    rows = Session.objects.select_for_update().filter(pk__in=epochs).only("epoch", "title").order_by("pk")
    return {row.pk: row for row in rows if row.epoch == epochs[row.pk]}


def _lock_unchanged_people(lessons: Sequence[Lesson]) -> Mapping[int, Person]:
    epochs = {lesson.turn.session.person_id: lesson.turn.session.person.epoch for lesson in lessons}
    rows = Person.objects.select_for_update(no_key=True).filter(pk__in=epochs).order_by("pk")
    return {row.pk: row for row in rows if row.epoch == epochs[row.pk]}


def _still_true(lessons: Sequence[Lesson]) -> Sequence[Lesson]:
    """Return those whose turn was not learned from meanwhile, and gained or lost no message."""
    turns = [lesson.turn for lesson in lessons]
    unlearned = Turn.objects.filter(pk__in=[turn.pk for turn in turns], learned_at=None)
    waiting = set(unlearned.values_list("pk", flat=True))
    keys: dict[int, list[int]] = defaultdict(list)
    for turn_id, key in _user_messages(turns).values_list("turn", "pk"):
        keys[turn_id].append(key)
    return [
        lesson
        for lesson in lessons
        if lesson.turn.pk in waiting and keys[lesson.turn.pk] == [row.pk for row in lesson.messages]
    ]
