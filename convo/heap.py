"""Memory that this process returns to the operating system after large work."""

import ctypes
import gc
import sys

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def trim() -> None:
    """Return free memory to the system, which glibc otherwise keeps for the thread that used it."""
    if _malloc_trim:
        _malloc_trim(0)


def freeze() -> None:
    """Leave what is loaded by now out of all later searches for reference cycles, and search less often.

    The searches took 8 % of the CPU of streamed replies, a whole one a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)


def collect_and_trim() -> None:
    """Free reference cycles as well, which takes a tenth of a second or more."""
    gc.collect()
    trim()
