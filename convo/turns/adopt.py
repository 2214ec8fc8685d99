"""Background turns whose process died before a word of the reply: another process begins them anew."""

import asyncio

from convo import database
from convo.conf import conf
from convo.jobs import swept_anywhere
from convo.models import Turn
from convo.turns.claim import WORKER, Claim
from convo.turns.heart import stopping
from convo.turns.runner import launch

MOST_AT_ONCE = 20
_here: list[asyncio.AbstractEventLoop] = []


def serve_here() -> None:
    """Run what is adopted on this event loop, which lives as long as its server."""
    _here[:] = [asyncio.get_running_loop()]


@swept_anywhere
def adopt() -> int:
    """Take over the turns that nobody waits with, where a server runs; how many those were."""
    if not _here or _here[0].is_closed() or stopping():
        return 0
    orphans = Turn.objects.orphaned().select_related("session").order_by("id")[:MOST_AT_ONCE]
    taken = [turn for turn in orphans if _taken(turn)]
    for turn in taken:
        place = Claim(turn=turn, session_id=turn.session_id, agent=turn.agent, queued=True)
        asyncio.run_coroutine_threadsafe(launch(place), _here[0])
    return len(taken)


def _taken(turn: Turn) -> bool:
    """Is it ours now? Two processes may have seen it."""
    lease = database.in_seconds(conf().lease_seconds)
    return bool(Turn.objects.orphaned().filter(pk=turn.pk).update(worker=WORKER, lease_until=lease))
