"""In which sessions a summary is due: weighed once for each state of a transcript, and written beside it."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from uuid import UUID

from django.db.models import F, Q

from convo import agents, database
from convo.jobs import swept
from convo.memory import stretch
from convo.memory.background import agent_of
from convo.models import Session

# A call weighs so many sessions of either sort, and so many are written in one statement.
AT_A_TIME, WRITTEN = 500, 100


def overdue(limit: int) -> list[UUID]:
    """The sessions that a summary is due in, those first that wait longest."""
    due = Session.objects.filter(summary_due=True, state_before__isnull=True).order_by("last_activity")
    return list(due.values_list("pk", flat=True)[:limit])


@swept
def weigh() -> int:
    """Weigh what has changed since, and what was weighed when agents.yaml said something else."""
    rules, sessions = _rules(), Session.objects.only("agent", "epoch", "last_position")
    lots = [list(rows[:AT_A_TIME]) for rows in (sessions.changed(), sessions.weighed_otherwise(rules))]
    found = {session.pk: session for lot in lots for session in lot}
    due = _due(found.values())
    for answer in (True, False):
        weighed = [session for session in found.values() if (session.pk in due) is answer]
        for start in range(0, len(weighed), WRITTEN):
            _write(weighed[start : start + WRITTEN], rules, due=answer)
    # What is left by a lot that wasn't full has changed just now: the next sweep is soon enough.
    return len(found) if AT_A_TIME in map(len, lots) else 0


def nothing_due(seen: Session) -> None:
    """There turned out to be nothing to summarise in this session, as long as it stays as it was seen."""
    if seen.summary_due:
        Session.objects.filter(_as(seen)).update(summary_due=False)


def _due(sessions: Iterable[Session]) -> set[UUID]:
    by_agent = defaultdict(list)
    for session in sessions:
        by_agent[agent_of(session.agent)].append(session.pk)
    return {
        place.session_id
        for agent, keys in by_agent.items()
        for place in stretch.overdue(agent, Session.objects.filter(pk__in=keys))
    }


@database.retried
def _write(weighed: Sequence[Session], rules: str, *, due: bool) -> None:
    """Write it down for those that are still as they were seen."""
    steady = Session.objects.filter(reduce(or_, map(_as, weighed)))
    version = F("epoch") + F("last_position")
    steady.update(summary_due=due, weighed_version=version, weighed_rules=rules)


def _as(seen: Session) -> Q:
    return Q(pk=seen.pk, epoch=seen.epoch, last_position=seen.last_position, agent=seen.agent)


def _rules() -> str:
    """All that agents.yaml says about when a summary is due, as a name that changes with it."""
    told = [
        (name, stretch.summarises(agent), agent.window_pairs, agent.summary_turns, agent.summary_tokens)
        for name, agent in sorted(agents.everyone().items())
    ]
    text = json.dumps([stretch.VERSION, agents.default_name(), told])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
