"""Learning from one turn: its gist, a title for the session, and facts about the person, at one go."""

import logging
from collections.abc import Sequence

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from convo import database, search
from convo.jobs import job
from convo.memory import background, patterns
from convo.memory.facts import LONGEST_TITLE, Notes, noted_by, one_line
from convo.memory.known import learn_facts, rest_on_copies
from convo.models import NOBODY, Message, Person, Session, Turn

logger = logging.getLogger(__name__)


def overdue(limit: int) -> list[int]:
    """The turns that have ended and weren't learned from, oldest first."""
    return list(_ended().order_by("id").values_list("pk", flat=True)[:limit])


def unlearned(person: Person) -> bool:
    """Is there something that this person said and nobody has learned from yet?"""
    return _ended().filter(session__person=person).exists()


@job("learn", overdue=overdue)
def learn(turn_id: int) -> None:
    """Learn from what the user said in this turn and nothing else; once, however often it is called."""
    turn = Turn.objects.filter(pk=turn_id, learned_at=None).select_related("session__person").first()
    if turn is None or not turn.ended or turn.session.state == Session.State.DELETED:
        return
    # So that it is found from now on; the sweep would come to it later, as it does to what others left.
    if turn.indexed_at is None:
        search.index_these([turn.pk])
    said = _said(turn)
    _keep(turn, said, _notes(turn, said) if said else Notes())


def _ended() -> QuerySet[Turn]:
    """The turns that have ended and weren't learned from; not of conversations on their way out."""
    there = Turn.objects.filter(learned_at=None, session__state_before__isnull=True)
    return there.exclude(status__in=[Turn.Status.QUEUED, Turn.Status.RUNNING])


def _said(turn: Turn) -> list[Message]:
    """What the user said in this turn, as far as it is shown and may be recalled."""
    session = turn.session
    if session.kind != Session.Kind.CONVERSATION or session.storage != Session.Storage.KEPT:
        return []
    rows = Message.objects.transcript(session).filter(turn=turn, role=Message.Role.USER, recallable=True)
    return list(rows.filter(type="message").exclude(content=""))


def _notes(turn: Turn, said: Sequence[Message]) -> Notes:
    agent = background.agent_of(turn.agent)
    if not agent.learn:
        return Notes()
    if _is_copy(turn):
        return Notes(gist=turn.gist, title=_title_of(turn))
    if turn.gist and turn.session.title:
        return Notes(gist=turn.gist)
    model = background.model_for(agent)
    notes = noted_by(model, said, background.room_for(agent)) if model else patterns.noted(said)
    # Learned from before, it teaches only what was taken back since: the session's title.
    return Notes(gist=turn.gist, title=notes.title or _title_of(turn)) if turn.gist else notes


def _title_of(turn: Turn) -> str:
    return one_line(turn.gist, LONGEST_TITLE)


def _is_copy(turn: Turn) -> bool:
    """Was this turn learned from before a fork took it along? Then nothing is new in it."""
    return bool(turn.gist) and turn.session.forked_from_id is not None


@database.retried
@transaction.atomic
def _keep(seen: Turn, said: Sequence[Message], notes: Notes) -> None:
    """Write down what was learned, unless something that it came from has changed meanwhile."""
    session = Session.objects.locked(seen.session_id)
    if session is None or session.epoch != seen.session.epoch:
        return
    person = Person.objects.select_for_update(no_key=True).get(pk=session.person_id)
    if person.epoch != seen.session.person.epoch:
        return
    turn = Turn.objects.filter(pk=seen.pk, learned_at=None).first()
    if turn is None or [row.pk for row in _said(turn)] != [row.pk for row in said]:
        return
    turn.gist, turn.learned_at = notes.gist, Now()
    turn.save(update_fields=["gist", "learned_at"])
    if notes.title and not session.title:
        session.title, session.title_turn = notes.title, turn.number
        session.save(update_fields=["title", "title_turn"])
    if person.ref != NOBODY and background.agent_of(turn.agent).memory:
        learn_facts(person, notes.facts)
        if _is_copy(seen):
            rest_on_copies(person, said)
