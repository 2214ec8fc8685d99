"""manage.py evaluate: measure the quality of search on a public data set."""

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from json import dumps
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from convo.errors import ConvoError
from convo.evaluation import budget, locomo, report, small
from convo.evaluation.locomo import DataSet

# The figures as JSON, and the table for people.
Measurement = tuple[Mapping[str, object], str]


class Command(BaseCommand):
    help = (
        "Measure search on a data set that you provide. The command removes it from the database afterwards."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        subparsers = parser.add_subparsers(dest="kind", required=True)
        parsers = {
            kind: subparsers.add_parser(kind, help=description)
            for kind, description in (
                ("locomo", "the share of LoCoMo's evidence among the first k results"),
                ("budget", "the share of the evidence that reaches the prompt, by token budget"),
                ("small", "what search finds among very few messages"),
            )
        }
        for subparser in parsers.values():
            subparser.add_argument("file", type=Path)
            subparser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
        parsers["locomo"].add_argument(
            "--distractors", type=int, default=0, metavar="N", help="add N unrelated messages"
        )
        parsers["locomo"].add_argument(
            "--ablation", action="store_true", help="also measure without each part of the score"
        )
        for kind, default in (("budget", None), ("small", small.QUESTIONS)):
            parsers[kind].add_argument(
                "--questions", type=int, default=default, metavar="N", help="ask only N, spread evenly"
            )

    def handle(self, *, kind: str, file: Path, json: bool, distractors: int = 0, **options: Any) -> None:
        try:
            with locomo.load(file, distractors=distractors, report_progress=self.stderr.write) as data:
                results, text = MEASURES[kind](data, **options)
        except ConvoError as error:
            raise CommandError(error.message) from error
        self.stdout.write(dumps(results, indent=2) if json else text)


def _measure_locomo(data: DataSet, *, ablation: bool, **_: object) -> Measurement:
    results = report.summary(data, locomo.ask_all(data))
    if ablation:
        results["ablation"] = {
            part: report.recall(locomo.ask_all(data, excluded_part=part)) for part in locomo.PARTS
        }
    return results, report.tables(results)


def _measure_budget(data: DataSet, *, questions: int | None, **_: object) -> Measurement:
    rows = list(budget.measure(data, question_limit=questions))
    return {str(row.budget): row._asdict() for row in rows}, budget.table(rows)


def _measure_small(data: DataSet, *, questions: int, **_: object) -> Measurement:
    rows = list(small.measure(data, question_limit=questions))
    return {str(row.messages): row._asdict() for row in rows}, small.table(rows)


MEASURES: dict[str, Callable[..., Measurement]] = {
    "locomo": _measure_locomo,
    "budget": _measure_budget,
    "small": _measure_small,
}
