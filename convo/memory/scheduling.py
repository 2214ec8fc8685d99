"""Schedule the background work that a turn may have made due. A sweep finds the same work from the rows."""

from collections.abc import Iterable

from convo import jobs
from convo.memory.model_requests import agent_or_default, asks_for_notes
from convo.models import Session, Turn

# Turns beyond this number are left to the sweep.
_MAX_TURNS = 20


def schedule(session: Session, turns: Iterable[Turn]) -> None:
    """Schedule learning from these turns of a session, and a summary that may be due, after the commit.

    A turn takes one hint: the job that learns from it also requests the summary that it makes due.
    """
    agent = agent_or_default(session.agent)
    # The jobs also index the turn, so an agent that recalls messages needs it soon even if it doesn't learn.
    # For all other agents the sweep indexes it.
    turns = list(turns) if agent.learn or agent.recall else []
    by_model = [turn for turn in turns if asks_for_notes(agent_or_default(turn.agent))]
    for turn in by_model[:_MAX_TURNS]:
        jobs.enqueue("learn", turn.pk)
    if len(by_model) < len(turns):
        # This job does all that waits.
        jobs.enqueue("learn_by_rules", turns[0].pk)
    if not turns and agent.summaries and session.message_count > agent.window_pairs:
        jobs.enqueue("summarise", session.pk)
