"""What was read of a small place, kept for its next question under the version that the rows have then."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from convo.search.embed import model_name
from convo.search.score import Pool

# A pool of a thousand messages takes about three megabytes.
MOST = 16

_pools: OrderedDict[str, tuple[tuple[Any, ...], Pool]] = OrderedDict()
_lock = threading.Lock()


def pool(place: str, version: tuple[Any, ...], read: Callable[[], Pool]) -> Pool:
    """The pool of this place, read anew when its version is another one than before.

    One that still waits for vectors is not kept: they come without a new version.
    """
    with _lock:
        found = _pools.get(place)
        if found and found[0] == version:
            _pools.move_to_end(place)
            return found[1]
    made = read()
    if not made.whole(model_name()):
        return made
    with _lock:
        _pools[place] = version, made
        _pools.move_to_end(place)
        while len(_pools) > MOST:
            _pools.popitem(last=False)
    return made
