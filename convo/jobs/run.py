"""One piece of work, done by whoever takes its lease."""

import logging

from convo import database
from convo.jobs import kinds, ledger
from convo.jobs.lease import renewed
from convo.models import Work

logger = logging.getLogger(__name__)


def run(name: str, pk: object) -> None:
    """Do this work, unless somebody is at it, it waits, or it is dead; a failure is noted, not raised."""
    kind = kinds.kind(name)
    if kind is None:
        # Sent by another version of this program, whose sweep knows it.
        logger.warning("there is no work called %s here", name)
        return
    try:
        key = kinds.key(str(pk))
    except ValueError:
        logger.warning("%s was sent without a primary key", name)
        return
    if work := ledger.take(name, str(pk)):
        _attempt(kind, key, work)


def _attempt(kind: kinds.Kind, key: object, work: Work) -> None:
    # Nothing is held while a model thinks, which is what most of this work waits for.
    database.release()
    try:
        with renewed(work):
            kind.do(key)
    except Exception as error:  # a border: the ledger is told, and the queue moves on
        ledger.failed(work, error)
    except BaseException:
        # The process is told to end.
        ledger.give_back(work)
        raise
    else:
        ledger.done(work)
    finally:
        database.release()
