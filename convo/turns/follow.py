"""Read turns, live or ended, whichever process runs them."""

from uuid import UUID

from convo import database, events
from convo.errors import ContentsExpired, DatabaseUnavailable, TurnCancelled
from convo.history import messages_of
from convo.models import Turn
from convo.turns.finish import TurnResult
from convo.turns.runner import Outcome, TurnLog


async def follow(turn: Turn) -> TurnLog:
    return await events.log_of(turn.key)


async def wait_for_ending(turn: Turn, log: TurnLog) -> Outcome:
    """Wait for the end of the turn and return its result or error."""
    outcome = await log.wait_until_ended()
    return await database.run(_load_outcome, turn.key) if outcome is events.ENDED_ELSEWHERE else outcome


def result_of(turn: Turn) -> TurnResult:
    """Return an ended turn with its reply, as far as that has not been deleted."""
    return TurnResult(turn, [message for message in messages_of(turn) if message.agent])


def _load_outcome(key: UUID) -> Outcome:
    turn = Turn.objects.filter(key=key).select_related("feedback").first()
    if turn is None:
        return TurnCancelled("This turn is gone: its session was cleared or deleted.")
    try:
        return result_of(turn)
    except (ContentsExpired, DatabaseUnavailable) as error:
        return error
