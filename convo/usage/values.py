"""What there is to say of many turns: how many, their tokens, how they failed, how long they took."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any


@dataclass(frozen=True)
class Spread:
    """How long it took, in milliseconds to two digits: for one in two at most, for 95 in 100 at most."""

    p50: int | None = None
    p95: int | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The numbers of some turns; `errors` has how many failed with each code, the most frequent first."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  # of the input: the model server had them at hand
    looked: int = 0  # how many turns looked for the transcript's end in the cache
    hot: int = 0  # and found it there
    errors: Mapping[str, int] = field(default_factory=dict)
    first_token: Spread = Spread()
    duration: Spread = Spread()

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The figures of each day, the oldest first, and of all of them together, by agent and model too."""

    days: Mapping[date, Figures]
    total: Figures
    agents: Mapping[str, Figures]
    models: Mapping[str, Figures]
    shares: Mapping[tuple[date, str], int]  # how many turns each agent took on each day


class Sum:
    """Turns added up, so that they can be added to others and told in figures at the end."""

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        kept = kept or {}
        self.numbers: Counter[str] = Counter(kept.get("numbers"))
        self.errors: Counter[str] = Counter(kept.get("errors"))
        # How many turns took so many milliseconds: to their first token, and to the end.
        self.waits: Counter[int] = Counter({int(ms): turns for ms, turns in kept.get("waits", {}).items()})
        self.times: Counter[int] = Counter({int(ms): turns for ms, turns in kept.get("times", {}).items()})

    def add(self, other: "Sum") -> None:
        self.numbers.update(other.numbers)
        self.errors.update(other.errors)
        self.waits.update(other.waits)
        self.times.update(other.times)

    def to_keep(self) -> dict[str, Any]:
        return {"numbers": self.numbers, "errors": self.errors, "waits": self.waits, "times": self.times}

    def figures(self) -> Figures:
        return Figures(
            **self.numbers,
            errors=dict(self.errors.most_common()),
            first_token=_spread(self.waits),
            duration=_spread(self.times),
        )


def _spread(times: Counter[int]) -> Spread:
    return Spread(_percentile(times, 50), _percentile(times, 95))


def _percentile(times: Counter[int], percent: int) -> int | None:
    """The least time within which so many of 100 turns stayed; None of no turns."""
    needed = -(-times.total() * percent // 100)
    for took in sorted(times):
        needed -= times[took]
        if needed <= 0:
            return took
    return None
