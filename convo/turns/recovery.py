"""Restart background turns whose process died before it had written any of the reply."""

import asyncio

from convo import database
from convo.conf import conf
from convo.jobs import quick_batch_job
from convo.models import Turn
from convo.turns.claim import WORKER_ID, Claim
from convo.turns.leases import is_shutting_down
from convo.turns.runner import launch

BATCH_SIZE = 20
_server_loops: list[asyncio.AbstractEventLoop] = []


def register_server_loop() -> None:
    """Register this event loop, which lives as long as its server, as the one that runs recovered turns."""
    _server_loops[:] = [asyncio.get_running_loop()]


@quick_batch_job
def recover_orphans() -> int:
    """Take over orphaned turns if this process runs a server, and return their number."""
    if not _server_loops or _server_loops[0].is_closed() or is_shutting_down():
        return 0
    orphans = Turn.objects.orphaned().select_related("session").order_by("id")[:BATCH_SIZE]
    turns = [turn for turn in orphans if _take_over(turn)]
    for turn in turns:
        claim = Claim(turn=turn, session_id=turn.session_id, agent=turn.agent, is_queued=True)
        asyncio.run_coroutine_threadsafe(launch(claim), _server_loops[0])
    return len(turns)


def _take_over(turn: Turn) -> bool:
    lease = database.seconds_from_now(conf().lease_seconds)
    # Two processes may have seen the same orphan; only one of their updates still matches it.
    return bool(Turn.objects.orphaned().filter(pk=turn.pk).update(worker=WORKER_ID, lease_until=lease))
