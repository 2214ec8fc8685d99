"""Record which sessions a summary is due in, so that a sweep rechecks only those that have changed."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from uuid import UUID

from django.db.models import F, Q

from convo import agents, database
from convo.jobs import batch_job
from convo.memory import due_range
from convo.memory.model_requests import agent_or_default
from convo.models import Session

# One call checks up to SESSIONS_PER_SWEEP sessions for either reason; one statement updates up to
# SESSIONS_PER_UPDATE of them.
SESSIONS_PER_SWEEP, SESSIONS_PER_UPDATE = 500, 100


def overdue(limit: int) -> list[UUID]:
    due = Session.objects.filter(summary_due=True, state_before__isnull=True).order_by("last_activity")
    return list(due.values_list("pk", flat=True)[:limit])


@batch_job
def mark_due() -> int:
    """Recheck the sessions that have changed, and those last checked under other settings of the agents.

    Return how many were checked, or 0 when the rest can wait for the next sweep.
    """
    rules_hash, sessions = _rules_hash(), Session.objects.only("agent", "epoch", "last_position")
    batches = [
        list(rows[:SESSIONS_PER_SWEEP])
        for rows in (sessions.with_unchecked_changes(), sessions.checked_by_other_rules(rules_hash))
    ]
    sessions_by_key = {session.pk: session for batch in batches for session in batch}
    due_keys = sessions_due(sessions_by_key.values())
    for is_due in (True, False):
        group = [session for session in sessions_by_key.values() if (session.pk in due_keys) is is_due]
        for batch in database.in_batches(group, SESSIONS_PER_UPDATE):
            _save_if_unchanged(batch, rules_hash, due=is_due)
    # If neither batch was full, any session left has changed just now: the next sweep is soon enough.
    return len(sessions_by_key) if SESSIONS_PER_SWEEP in map(len, batches) else 0


def sessions_due(sessions: Iterable[Session]) -> set[UUID]:
    """Return the keys of those sessions that a summary is due in; only their keys and agents are read."""
    by_agent = defaultdict(list)
    for session in sessions:
        by_agent[agent_or_default(session.agent)].append(session.pk)
    return {
        place.session_id
        for agent, keys in by_agent.items()
        for place in due_range.due_sessions(agent, Session.objects.filter(pk__in=keys))
    }


def clear_due(session: Session) -> None:
    """Record that a session has nothing to summarise, unless it has changed since it was read."""
    if session.summary_due:
        Session.objects.filter(_same_version(session)).update(summary_due=False)


@database.retry_conflicts
def _save_if_unchanged(sessions: Sequence[Session], rules_hash: str, *, due: bool) -> None:
    """Save the answer for the sessions that have not changed since they were read."""
    unchanged_sessions = Session.objects.filter(reduce(or_, map(_same_version, sessions)))
    version = F("epoch") + F("last_position")
    unchanged_sessions.update(summary_due=due, checked_version=version, checked_rules=rules_hash)


def _same_version(session: Session) -> Q:
    return Q(pk=session.pk, epoch=session.epoch, last_position=session.last_position, agent=session.agent)


def _rules_hash() -> str:
    """Return a hash of everything in agents.yaml that decides whether a summary is due."""
    rules = [
        (name, due_range.has_summaries(agent), agent.window_pairs, agent.summary_turns, agent.summary_tokens)
        for name, agent in sorted(agents.all_agents().items())
    ]
    text = json.dumps([due_range.RULES_VERSION, agents.default_name(), rules])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
