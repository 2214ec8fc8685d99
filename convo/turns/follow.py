"""Reading a turn, live or ended, wherever it runs."""

from uuid import UUID

from convo import database, events
from convo.errors import Cancelled, ConvoError, TextGone, Unavailable
from convo.history import messages_of
from convo.models import Turn
from convo.turns.finish import Result
from convo.turns.runner import TurnLog


async def follow(turn: Turn) -> TurnLog:
    """The log of this turn, to be followed from any place in it, as often as one likes."""
    return await events.log_of(turn.key)


async def ending(turn: Turn, log: TurnLog) -> Result | ConvoError:
    """How the turn ended, once it has."""
    ended = await log.ended()
    return await database.run(_looked_up, turn.key) if ended is events.ENDED_ELSEWHERE else ended


def result(turn: Turn) -> Result:
    """What an ended turn answered, as far as it still is there."""
    return Result(turn, [message for message in messages_of(turn) if message.agent])


def _looked_up(key: UUID) -> Result | ConvoError:
    turn = Turn.objects.filter(key=key).select_related("feedback").first()
    if turn is None:
        return Cancelled("This turn is gone: its session was cleared or deleted.")
    try:
        return result(turn)
    except (TextGone, Unavailable) as error:
        return error
