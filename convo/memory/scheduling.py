"""Schedule the background work that a turn may have made due. A sweep finds the same work from the rows."""

from collections.abc import Iterable

from convo import jobs
from convo.memory.model_requests import agent_or_default
from convo.models import Session, Turn

# Turns beyond this number are left to the sweep.
_MAX_TURNS = 20


def schedule(session: Session, turns: Iterable[Turn]) -> None:
    """Schedule learning from these turns of a session, and a summary that may be due, after the commit."""
    agent = agent_or_default(session.agent)
    # The job also indexes the turn, so an agent that recalls messages needs it soon even if it doesn't learn.
    # For all other agents the sweep indexes it.
    if agent.learn or agent.recall:
        for turn in list(turns)[:_MAX_TURNS]:
            jobs.enqueue("learn", turn.pk)
    if agent.summaries and session.message_count > agent.window_pairs:
        jobs.enqueue("summarise", session.pk)
