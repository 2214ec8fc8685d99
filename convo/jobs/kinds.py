"""What there is to do in the background: registered where it is written, found by its name."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

Do = TypeVar("Do", bound=Callable[..., None])
Batch = Callable[[], int]


@dataclass(frozen=True)
class Kind:
    """Work that is about one row: how it is done, and how the rows say which of them are behind."""

    name: str
    do: Callable[..., None]
    overdue: Callable[[int], Iterable[Any]]


_kinds: dict[str, Kind] = {}
_batches: list[Batch] = []
_quick: list[Batch] = []


def swept(function: Batch) -> Batch:
    """Make this function part of every sweep. It finds its own work, a piece of it at a time, and says how
    much it did."""
    _batches.append(function)
    return function


def swept_anywhere(function: Batch) -> Batch:
    """Make this function part of every sweep, the web processes' too: for what is quick and can't wait."""
    _quick.append(function)
    return function


def job(name: str, *, overdue: Callable[[int], Iterable[Any]]) -> Callable[[Do], Do]:
    """Make this function the way to do one piece of such work; it is called with a primary key.

    `overdue(limit)` answers the primary keys that the rows say are behind, the oldest first. The function
    looks first whether its row is still behind: it may be called twice, late, or for a row that is gone.
    """

    def register(function: Do) -> Do:
        _kinds[name] = Kind(name, function, overdue)
        return function

    return register


def kind(name: str) -> Kind | None:
    """The kind of this name, which another version of this program may know and this one not."""
    return _kinds.get(name)


def kinds() -> Sequence[Kind]:
    return list(_kinds.values())


def batches() -> Sequence[Batch]:
    return list(_batches)


def quick() -> Sequence[Batch]:
    return list(_quick)


def key(target: str) -> int | UUID:
    """The primary key that a target stands for: a number or a UUID, as Convo's tables have them."""
    return int(target) if target.isdecimal() else UUID(target)
