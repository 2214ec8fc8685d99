"""manage.py evaluate: how good search is, measured on a public data set."""

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from convo.errors import ConvoError
from convo.evaluation import budget, locomo, report


class Command(BaseCommand):
    help = "Measure search on a data set that you have. Nothing of it is left in the database afterwards."

    def add_arguments(self, parser: ArgumentParser) -> None:
        kinds = parser.add_subparsers(dest="kind", required=True)
        long = kinds.add_parser("locomo", help="LoCoMo: how much of the evidence is among the first k?")
        long.add_argument("file", type=Path)
        long.add_argument("--distractors", type=int, default=0, metavar="N", help="among N other messages")
        long.add_argument("--ablation", action="store_true", help="also without each term of the score")
        long.add_argument("--json", action="store_true", help="one JSON object instead of tables")
        budgets = kinds.add_parser("budget", help="how much of it reaches the prompt, in so many tokens?")
        budgets.add_argument("file", type=Path)
        budgets.add_argument("--questions", type=int, metavar="N", help="only N of them, spread evenly")
        budgets.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    def handle(self, *, kind: str, file: Path, **options: Any) -> None:
        try:
            measure = self._locomo if kind == "locomo" else self._budget
            found, told = measure(file, options)
        except ConvoError as error:
            raise CommandError(error.message) from error
        self.stdout.write(json.dumps(found, indent=2) if options["json"] else told)

    def _locomo(self, file: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        with locomo.loaded(file, distractors=options["distractors"], told=self._tell) as data:
            outcomes = [locomo.ask(question, data.owner) for question in data.questions]
            found = report.summary(data, outcomes)
            if options["ablation"]:
                found["ablation"] = {
                    without: report.recall(
                        [locomo.ask(question, data.owner, without=without) for question in data.questions]
                    )
                    for without in locomo.TERMS
                }
        return found, report.tables(found)

    def _budget(self, file: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        with locomo.loaded(file, told=self._tell) as data:
            rows = list(budget.reached(data, most=options["questions"]))
        return {str(row.budget): asdict(row) for row in rows}, budget.table(rows)

    def _tell(self, text: str) -> None:
        self.stderr.write(text)
