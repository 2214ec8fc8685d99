"""Background work. The rows say what is behind; a sweep, now and then, catches up with it."""

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

_sweeps: list[Callable[[], int]] = []


def swept(function: Callable[[], int]) -> Callable[[], int]:
    """Make this function part of every sweep. It finds its own work, and says how much it did."""
    _sweeps.append(function)
    return function


def sweep() -> None:
    """Do what is overdue. It may run anywhere, twice at once, or late."""
    for function in _sweeps:
        done = function()
        if done:
            logger.info("sweep: %s did %d", function.__name__, done)
