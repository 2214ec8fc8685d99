"""Run one piece of work in whichever process gets its lease."""

import logging

from convo import database
from convo.jobs import ledger, registry
from convo.jobs.lease import keep_lease
from convo.models import Work

logger = logging.getLogger(__name__)


def run(name: str, pk: object) -> None:
    """Run this work, unless it is running, waiting or dead; a failure is recorded and not raised."""
    kind = registry.get_job(name)
    if kind is None:
        # Another version of this program sent it, and its own sweep finds it.
        logger.warning("unknown job %s: another version of Convo may have sent it", name)
        return
    try:
        key = registry.parse_key(str(pk))
    except ValueError:
        logger.warning("job %s was sent without a valid primary key", name)
        return
    if work := ledger.start_attempt(name, str(pk)):
        _attempt(kind, key, work)


def _attempt(kind: registry.Job, key: object, work: Work) -> None:
    # Most of this work waits for a model, and no connection may be held meanwhile.
    database.close_connections()
    try:
        with keep_lease(work):
            kind.run(key)
    except Exception as error:  # a boundary: the ledger records it, and the queue moves on
        ledger.record_failure(work, error)
    except BaseException:
        # This process was told to end, so the attempt doesn't count.
        ledger.cancel_attempt(work)
        raise
    else:
        ledger.complete(work)
    finally:
        database.close_connections()
