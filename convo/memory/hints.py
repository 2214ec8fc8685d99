"""After a turn: what there may be to think about. The rows say the same, to whoever sweeps."""

from collections.abc import Iterable

from convo import jobs
from convo.memory.background import agent_of
from convo.models import Session, Turn

# Of many turns at once the sweep learns.
_MOST = 20


def hint(session: Session, turns: Iterable[Turn]) -> None:
    """Have these turns of a session learned from soon after the transaction, and what is due summarised."""
    agent = agent_of(session.agent)
    # Where nothing is learned, what is looked up is to be found soon all the same; else the sweep indexes it.
    if agent.learn or agent.recall:
        for turn in list(turns)[:_MOST]:
            jobs.later("learn", turn.pk)
    if agent.summaries and session.message_count > agent.window_pairs:
        jobs.later("summarise", session.pk)
