"""The registry of background work: each job is registered where it is written, and found by its name."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

JobFunction = TypeVar("JobFunction", bound=Callable[..., None])
BulkJobFunction = TypeVar("BulkJobFunction", bound=Callable[[Sequence[Any]], object])
BatchJob = Callable[[], int]


@dataclass(frozen=True)
class Job:
    """A job: how it is done for a row, and which rows it is overdue for."""

    name: str
    run: Callable[..., object]
    overdue: Callable[[int], Iterable[object]]
    # Some jobs are quicker when they are done for many rows at once.
    run_many: Callable[..., object] | None = None


_jobs: dict[str, Job] = {}
_batch_jobs: list[BatchJob] = []
_quick_batch_jobs: list[BatchJob] = []


def batch_job(function: BatchJob) -> BatchJob:
    """Register a function that every sweep calls.

    It finds its own work, does a piece of it at a time, and returns how much it did.
    """
    _batch_jobs.append(function)
    return function


def quick_batch_job(function: BatchJob) -> BatchJob:
    """Register a function that every sweep calls, also in web processes: it is quick and can't wait."""
    _quick_batch_jobs.append(function)
    return function


def job(name: str, *, overdue: Callable[[int], Iterable[object]]) -> Callable[[JobFunction], JobFunction]:
    """Register the decorated function as the job of this name; it is called with a primary key.

    `overdue(limit)` returns the primary keys of the rows that are overdue, oldest first. The function first
    checks that its row still is: it may be called twice, late, or for a row that is gone.
    """

    def register(function: JobFunction) -> JobFunction:
        _jobs[name] = Job(name, function, overdue)
        return function

    return register


def bulk_job(
    name: str, *, overdue: Callable[[int], Iterable[object]]
) -> Callable[[BulkJobFunction], BulkJobFunction]:
    """Register the decorated function as the job of this name; it is called with a list of primary keys.

    If it fails for many, a sweep calls it with one at a time, so that only those that fail have to wait.
    """

    def register(function: BulkJobFunction) -> BulkJobFunction:
        _jobs[name] = Job(name, lambda pk: function([pk]), overdue, function)
        return function

    return register


def get_job(name: str) -> Job | None:
    """Return the job of this name; None for one that only another version of this program has."""
    _require_jobs()
    return _jobs.get(name)


def is_for_many(name: str) -> bool:
    kind = _jobs.get(name)
    return kind is not None and kind.run_many is not None


def all_jobs() -> Sequence[Job]:
    _require_jobs()
    return list(_jobs.values())


def batch_jobs() -> Sequence[BatchJob]:
    _require_jobs()
    return list(_batch_jobs)


def quick_batch_jobs() -> Sequence[BatchJob]:
    _require_jobs()
    return list(_quick_batch_jobs)


def _require_jobs() -> None:
    # Without jobs, a sweep would find nothing to do and record that it has caught up.
    if not _jobs:
        raise RuntimeError(
            "No background work is registered: ConvoConfig.ready(), which does that, was not called."
        )


def parse_key(target: str) -> int | UUID:
    return int(target) if target.isdecimal() else UUID(target)
