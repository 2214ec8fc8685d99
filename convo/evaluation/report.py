"""Report the results of an evaluation, as numbers and as tables."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median, quantiles
from typing import Any

from convo.evaluation.locomo import CATEGORIES, RECALL_AT, DataSet, Outcome

# Published with the data set: the best retriever over single turns in its paper, all ten conversations.
PAPER = {"LoCoMo paper, DRAGON": {"5": 56.7, "10": 66.2, "25": 76.7, "50": 82.7}}


def recall(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the mean share of the evidence among the first k hits, in per cent."""
    return {str(k): round(100 * mean(outcome.recall[k] for outcome in outcomes), 1) for k in RECALL_AT}


def summary(data: DataSet, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the figures of a run, as `--json` prints them."""
    milliseconds = [outcome.milliseconds for outcome in outcomes]
    by_category = {
        name: [outcome for outcome in outcomes if outcome.category == number]
        for number, name in CATEGORIES.items()
    }
    return {
        "overall": {"questions": len(outcomes), "recall": recall(outcomes)},
        "categories": {
            name: {"questions": len(category_outcomes), "recall": recall(category_outcomes)}
            for name, category_outcomes in by_category.items()
            if category_outcomes
        },
        "latency_ms": {
            "first": round(milliseconds[0], 2),
            "p50": round(median(milliseconds), 2),
            "p95": round(quantiles(milliseconds, n=20)[-1], 2)
            if len(milliseconds) > 1
            else round(milliseconds[0], 2),
        },
        "messages": data.messages,
        "indexed_per_second": round(data.messages / max(data.index_seconds, 1e-9)),
    }


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[float]]) -> str:
    """Return a table of numbers in columns of equal width; fractions have one digit."""
    width = max(map(len, headings)) + 2
    lines = [
        "".join(f"{value:>{width}.1f}" if isinstance(value, float) else f"{value:>{width}}" for value in row)
        for row in rows
    ]
    return "\n".join([title, "", "".join(f"{heading:>{width}}" for heading in headings), *lines])


def tables(figures: Mapping[str, Any]) -> str:
    rows = {"all questions": figures["overall"]["recall"]}
    rows |= {
        f"  {name} ({category['questions']})": category["recall"]
        for name, category in figures["categories"].items()
    }
    rows |= PAPER
    rows |= {f"  without {term}": row for term, row in figures.get("ablation", {}).items()}
    latency = figures["latency_ms"]
    lines = [
        f"{figures['overall']['questions']} questions over {figures['messages']} messages",
        "",
        f"{'':<28}" + "".join(f"{f'R@{k}':>8}" for k in RECALL_AT),
        *(f"{name:<28}" + "".join(f"{row[str(k)]:>8.1f}" for k in RECALL_AT) for name, row in rows.items()),
        "",
        f"Query: {latency['p50']} ms (p95 {latency['p95']}, first {latency['first']}). "
        f"Indexing: {figures['indexed_per_second']} messages per second.",
    ]
    return "\n".join(lines)
