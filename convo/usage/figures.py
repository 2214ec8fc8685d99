"""Figures about many turns: their number, tokens, failures and durations."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True)
class Percentiles:
    """The median and the 95th percentile of durations, in milliseconds rounded to two digits."""

    p50: int | None = None
    p95: int | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of some turns; `errors` counts the failed ones by code, the most frequent code first."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  # input tokens that the model server had cached
    cache_reads: int = 0  # turns that read the hot window
    cache_hits: int = 0  # turns whose hot window was in the cache
    errors: Mapping[str, int] = field(default_factory=dict)
    first_token: Percentiles = Percentiles()
    duration: Percentiles = Percentiles()

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


@dataclass(frozen=True, kw_only=True)
class UsageReport:
    """The figures by day, the oldest first, and those of all days: in total, by agent, and by model."""

    days: Mapping[date, Figures]
    total: Figures
    agents: Mapping[str, Figures]
    models: Mapping[str, Figures]
    shares: Mapping[tuple[date, str], int]  # turns by day and agent


class UsageSum:
    """A running sum of turns, which other sums can be added to before it is turned into figures."""

    def __init__(self, data: Mapping[str, Mapping[str, int]] | None = None) -> None:
        data = data or {}
        self.numbers: Counter[str] = Counter(data.get("numbers"))
        self.errors: Counter[str] = Counter(data.get("errors"))
        # Numbers of turns by their milliseconds: to the first token, and to the end.
        self.waits: Counter[int] = Counter({int(ms): turns for ms, turns in data.get("waits", {}).items()})
        self.times: Counter[int] = Counter({int(ms): turns for ms, turns in data.get("times", {}).items()})

    def add(self, other: "UsageSum") -> None:
        self.numbers.update(other.numbers)
        self.errors.update(other.errors)
        self.waits.update(other.waits)
        self.times.update(other.times)

    def to_json(self) -> dict[str, Counter[str] | Counter[int]]:
        return {"numbers": self.numbers, "errors": self.errors, "waits": self.waits, "times": self.times}

    def figures(self) -> Figures:
        return Figures(
            **self.numbers,
            errors=dict(self.errors.most_common()),
            first_token=_spread(self.waits),
            duration=_spread(self.times),
        )


def _spread(times: Counter[int]) -> Percentiles:
    return Percentiles(_percentile(times, 50), _percentile(times, 95))


def _percentile(times: Counter[int], percent: int) -> int | None:
    """Return the shortest duration that `percent` of the turns stayed within, or None without turns."""
    remaining = -(-times.total() * percent // 100)
    for milliseconds in sorted(times):
        remaining -= times[milliseconds]
        if remaining <= 0:
            return milliseconds
    return None
