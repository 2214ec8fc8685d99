"""manage.py evaluate: measure the quality of search on a public data set."""

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from json import dumps
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from convo.errors import ConvoError
from convo.evaluation import budget, locomo, report, small


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
        parsers["budget"].add_argument(
            "--questions", type=int, metavar="N", help="ask only N questions, spread evenly"
        )
        parsers["small"].add_argument(
            "--questions", type=int, default=small.QUESTIONS, metavar="N", help="ask only N questions"
        )

    def handle(self, *, kind: str, file: Path, json: bool, **options: Any) -> None:
        measures: dict[str, Callable[..., tuple[Mapping[str, object], str]]] = {
            "locomo": self._measure_locomo,
            "budget": self._measure_budget,
            "small": self._measure_small,
        }
        try:
            results, text = measures[kind](file, **options)
        except ConvoError as error:
            raise CommandError(error.message) from error
        self.stdout.write(dumps(results, indent=2) if json else text)

    def _measure_locomo(
        self, file: Path, *, distractors: int, ablation: bool, **_: object
    ) -> tuple[Mapping[str, object], str]:
        with locomo.load(file, distractors=distractors, report_progress=self._write_progress) as data:
            outcomes = [locomo.ask(question, data.owner) for question in data.questions]
            results = report.summary(data, outcomes)
            if ablation:
                results["ablation"] = {
                    without: report.recall(
                        [
                            locomo.ask(question, data.owner, excluded_part=without)
                            for question in data.questions
                        ]
                    )
                    for without in locomo.PARTS
                }
        return results, report.tables(results)

    def _measure_budget(
        self, file: Path, *, questions: int | None, **_: object
    ) -> tuple[Mapping[str, object], str]:
        with locomo.load(file, report_progress=self._write_progress) as data:
            rows = list(budget.measure(data, question_limit=questions))
        return {str(row.budget): row._asdict() for row in rows}, budget.table(rows)

    def _measure_small(self, file: Path, *, questions: int, **_: object) -> tuple[Mapping[str, object], str]:
        with locomo.load(file, report_progress=self._write_progress) as data:
            rows = list(small.measure(data, question_limit=questions))
        return {str(row.messages): row._asdict() for row in rows}, small.table(rows)

    def _write_progress(self, text: str) -> None:
        self.stderr.write(text)
