"""The database as code outside a request sees it: its clock, and threads that keep no connection."""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from django.db import OperationalError, connection, connections
from django.db.models import DateTimeField, ExpressionWrapper, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

P = ParamSpec("P")
T = TypeVar("T")

# Fewer threads than the PostgreSQL pool has connections, so that detached work can't starve requests.
_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="convo-database")
_thread_apart = ThreadPoolExecutor(max_workers=1, thread_name_prefix="convo-heartbeat")


def in_seconds(seconds: float) -> Combinable:
    """The moment so many seconds from now by the database's clock, the only clock that processes share."""
    return ExpressionWrapper(Now() + Value(timedelta(seconds=seconds)), output_field=DateTimeField())


def release() -> None:
    """Give this thread's connections back, so that nothing is held while a model thinks."""
    for held in connections.all(initialized_only=True):
        if not held.in_atomic_block:
            held.close()


def retried(function: Callable[P, T]) -> Callable[P, T]:
    """Make this transaction try again when the database gave it up for another one's sake, twice at most."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        for wait in (0.05, 0.2):
            try:
                return function(*args, **kwargs)
            except OperationalError as error:
                # Inside of another transaction only that one as a whole can be tried again.
                if connection.in_atomic_block or not _gave_way(error):
                    raise
                time.sleep(wait * random.uniform(0.5, 1.5))
        return function(*args, **kwargs)

    return call


def _gave_way(error: OperationalError) -> bool:
    """Was it a deadlock or a serialization failure, in PostgreSQL's terms?"""
    return getattr(error.__cause__, "sqlstate", None) in {"40001", "40P01"}


async def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a sync function that uses the ORM from async code; no connection outlives the call."""
    return await _called(_threads, partial(function, *args, **kwargs))


async def run_at_once(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same on a thread that nothing else uses: for what is too late when it waits behind others."""
    return await _called(_thread_apart, partial(function, *args, **kwargs))


async def _called(threads: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    def call() -> T:
        try:
            return function()
        finally:
            release()

    return await asyncio.get_running_loop().run_in_executor(threads, call)
