"""What was read of a small place, kept for its next question under the version that the rows have then."""

import threading
from collections import OrderedDict

from django.db import connection

from convo.search.embed import model_name
from convo.search.score import Pool, Row
from convo.search.where import FEW, Version, Where

# A pool of a thousand messages takes about three megabytes.
MOST = 16

_pools: OrderedDict[str, tuple[Version, Pool]] = OrderedDict()
_lock = threading.Lock()


def pool(where: Where) -> Pool | None:
    """All that may be found in a place, read anew as far as it is another version of it than before.

    None of a place with more messages than are ranked all. A pool that still waits for vectors is not kept:
    they come without a new version.
    """
    place = (
        f"{connection.settings_dict['NAME']} {where.place} {where.session.pk.hex if where.session else ''}"
    )
    with _lock:
        before = _pools.get(place)
        if before:
            _pools.move_to_end(place)
    if not before and where.count() > FEW:
        return None
    version = where.version()
    if before and before[0] == version:
        return before[1]
    if version.messages > FEW:
        # To ask for its version each time would take longer the more there is.
        with _lock:
            _pools.pop(place, None)
        return None
    made = Pool((before and _grown(where, version, *before)) or where.found(where.all))
    if not made.whole(model_name()):
        return made
    with _lock:
        _pools[place] = version, made
        _pools.move_to_end(place)
        while len(_pools) > MOST:
            _pools.popitem(last=False)
    return made


def _grown(where: Where, version: Version, then: Version, known: Pool) -> list[Row]:
    """What was known and what came since, where nothing else has changed: another turn, as a rule."""
    newest = then.newest or 0
    if not version.goes_on_from(then) or version.messages != then.messages + where.since(newest):
        return []
    held = set(known.keys.tolist())
    rows = where.found(where.all, ("one.message_id > %s", [newest]))
    return [*known.rows, *(row for row in rows if row.message_id not in held)]
