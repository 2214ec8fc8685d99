"""manage.py evaluate: measure the quality of search on a public data set."""

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict
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
        locomo_parser = subparsers.add_parser(
            "locomo", help="the share of LoCoMo's evidence among the first k results"
        )
        locomo_parser.add_argument("file", type=Path)
        locomo_parser.add_argument(
            "--distractors", type=int, default=0, metavar="N", help="add N unrelated messages"
        )
        locomo_parser.add_argument(
            "--ablation", action="store_true", help="also measure without each part of the score"
        )
        locomo_parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
        budget_parser = subparsers.add_parser(
            "budget", help="the share of the evidence that reaches the prompt, by token budget"
        )
        budget_parser.add_argument("file", type=Path)
        budget_parser.add_argument(
            "--questions", type=int, metavar="N", help="ask only N questions, spread evenly"
        )
        budget_parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
        small_parser = subparsers.add_parser("small", help="what search finds among very few messages")
        small_parser.add_argument("file", type=Path)
        small_parser.add_argument(
            "--questions", type=int, default=small.QUESTIONS, metavar="N", help="ask only N questions"
        )
        small_parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    def handle(self, *, kind: str, file: Path, **options: Any) -> None:
        try:
            measure = {
                "locomo": self._measure_locomo,
                "budget": self._measure_budget,
                "small": self._measure_small,
            }[kind]
            results, text = measure(file, options)
        except ConvoError as error:
            raise CommandError(error.message) from error
        self.stdout.write(json.dumps(results, indent=2) if options["json"] else text)

    def _measure_locomo(self, file: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        with locomo.load(
            file, distractors=options["distractors"], report_progress=self._write_progress
        ) as data:
            outcomes = [locomo.ask(question, data.owner) for question in data.questions]
            results = report.summary(data, outcomes)
            if options["ablation"]:
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

    def _measure_budget(self, file: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        with locomo.load(file, report_progress=self._write_progress) as data:
            rows = list(budget.measure(data, question_limit=options["questions"]))
        return {str(row.budget): asdict(row) for row in rows}, budget.table(rows)

    def _measure_small(self, file: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        with locomo.load(file, report_progress=self._write_progress) as data:
            rows = list(small.measure(data, question_limit=options["questions"]))
        return {str(row.messages): asdict(row) for row in rows}, small.table(rows)

    def _write_progress(self, text: str) -> None:
        self.stderr.write(text)
