"""What an evaluation found, as numbers and as tables."""

from collections.abc import Mapping, Sequence
from statistics import mean, median, quantiles
from typing import Any

from convo.evaluation.locomo import AT, CATEGORIES, Loaded, Outcome

# Published with the data set: the best retriever over single turns in its paper, all ten conversations.
PAPER = {"LoCoMo paper, DRAGON": {"5": 56.7, "10": 66.2, "25": 76.7, "50": 82.7}}


def recall(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The mean share of the evidence among the first k, in percent."""
    return {str(k): round(100 * mean(outcome.recall[k] for outcome in outcomes), 1) for k in AT}


def summary(data: Loaded, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of a run, as `--json` prints them."""
    taken = [outcome.milliseconds for outcome in outcomes]
    by_category = {
        name: [outcome for outcome in outcomes if outcome.category == number]
        for number, name in CATEGORIES.items()
    }
    return {
        "overall": {"questions": len(outcomes), "recall": recall(outcomes)},
        "categories": {
            name: {"questions": len(some), "recall": recall(some)}
            for name, some in by_category.items()
            if some
        },
        "latency_ms": {
            "first": round(taken[0], 2),
            "p50": round(median(taken), 2),
            "p95": round(quantiles(taken, n=20)[-1], 2) if len(taken) > 1 else round(taken[0], 2),
        },
        "messages": data.messages,
        "indexed_per_second": round(data.messages / max(data.index_seconds, 1e-9)),
    }


def tables(found: Mapping[str, Any]) -> str:
    """The same for people."""
    rows = {"all questions": found["overall"]["recall"]}
    rows |= {f"  {name} ({one['questions']})": one["recall"] for name, one in found["categories"].items()}
    rows |= PAPER
    rows |= {f"  without {term}": row for term, row in found.get("ablation", {}).items()}
    latency = found["latency_ms"]
    lines = [
        f"{found['overall']['questions']} questions over {found['messages']} messages",
        "",
        f"{'':<28}" + "".join(f"{f'R@{k}':>8}" for k in AT),
        *(f"{name:<28}" + "".join(f"{row[str(k)]:>8.1f}" for k in AT) for name, row in rows.items()),
        "",
        f"a query: {latency['p50']} ms (p95 {latency['p95']}, the first one {latency['first']}); "
        f"indexed {found['indexed_per_second']} messages a second",
    ]
    return "\n".join(lines)
